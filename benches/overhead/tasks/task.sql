-- SQLite at work in memory for a tenth of a second or so: inserts, an index, joins, aggregates, text, a recursive query.
-- :1 is the scale.
PRAGMA temp_store = MEMORY;
CREATE TABLE item (id INTEGER PRIMARY KEY, kind INTEGER, price REAL, name TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000 * :1)
INSERT INTO item SELECT i, i * 7919 % 97, i * 0.25, printf('item %05d', i * 31 % 4001) FROM n;
CREATE INDEX by_kind ON item (kind, price);
SELECT kind, count(*), sum(price), max(name) FROM item GROUP BY kind ORDER BY 3 DESC LIMIT 5;
SELECT count(*), sum(a.price * b.price) FROM item a JOIN item b ON a.kind = b.kind AND b.id <= 200 WHERE a.id % 3 = 0;
SELECT count(*) FROM item WHERE name LIKE '%7%' AND substr(name, 6, 2) > '10';
UPDATE item SET price = price * 1.5 WHERE kind BETWEEN 10 AND 60;
DELETE FROM item WHERE id % 7 = 0;
SELECT count(*), round(avg(price), 6), min(name) FROM item;
