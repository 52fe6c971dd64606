CREATE TABLE products (
    -- AUTOINCREMENT: the number of a deleted product is never given to another one.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    price_cents INTEGER NOT NULL
) STRICT;

INSERT INTO products (id, name, price_cents) VALUES
    (1, 'iPhone 9', 54900),
    (2, 'iPhone X', 89900),
    (3, 'Samsung Universe 9', 124900),
    (4, 'OPPO F19', 28000),
    (5, 'Huawei P30', 49900);
