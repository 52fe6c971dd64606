CREATE TABLE roles (
    role TEXT PRIMARY KEY
) STRICT;

CREATE TABLE users (
    username TEXT PRIMARY KEY,
    -- argon2id, as a PHC string.
    password_hash TEXT NOT NULL,
    role TEXT NOT NULL REFERENCES roles (role)
) STRICT;

INSERT INTO roles (role) VALUES ('admin'), ('gues');

-- For the demonstration: both passwords are 123456.
INSERT INTO users (username, password_hash, role) VALUES
    ('admin', '$argon2id$v=19$m=19456,t=2,p=1$x/WaUhncPsQqgxQFgrKcZg$oaprJd12JLyCO5gZ85KRN0dYZQVNF5m+U6uclkAlAgQ', 'admin'),
    ('gues', '$argon2id$v=19$m=19456,t=2,p=1$KhZRjwQbql4regEcq/XikA$pqAYxSzmf89qobOGVS6yNObjwHENmK200PBLODkLwZM', 'gues');
