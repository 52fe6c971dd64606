CREATE TABLE revocations (
    jti TEXT PRIMARY KEY,
    -- When the token expires by itself, in seconds since 1970.
    expires_at INTEGER NOT NULL
) STRICT;

CREATE INDEX revocations_by_expiry ON revocations (expires_at);
