CREATE TABLE permissions (
    role TEXT NOT NULL REFERENCES roles (role),
    permission TEXT NOT NULL,
    PRIMARY KEY (role, permission)
) STRICT, WITHOUT ROWID;

INSERT INTO permissions (role, permission) VALUES
    ('admin', 'product:view'),
    ('admin', 'product:add'),
    ('admin', 'product:delete'),
    ('gues', 'product:list');
