-- SQLite at work on a database in a file: bulk inserts in transactions, indexes, joins, window functions, recursive queries, full-text
-- search, updates through triggers, a rolled-back savepoint, deletes, VACUUM, integrity check. :1 is the scale: 1 takes under two
-- seconds, 40 a minute or so. Output depends on :1 alone.
PRAGMA journal_mode = DELETE;
PRAGMA page_size = 4096;
PRAGMA cache_size = 100;
-- SQLite deletes its temporary files while they are open; a job that is to be resumed keeps them in memory.
PRAGMA temp_store = MEMORY;

CREATE TABLE settings (scale INTEGER);
INSERT INTO settings VALUES (coalesce(:1, 10));
SELECT 'scale', scale FROM settings;

CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL, credit REAL DEFAULT 0);
CREATE TABLE purchase (id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customer, item TEXT, amount INTEGER, day INTEGER);
CREATE TABLE audit (entry INTEGER PRIMARY KEY, what TEXT, id INTEGER, before REAL, after REAL);
CREATE TRIGGER watch AFTER UPDATE OF credit ON customer BEGIN
  INSERT INTO audit (what, id, before, after) VALUES ('credit', new.id, old.credit, new.credit);
END;

-- Pseudo-random numbers by a multiplicative generator in SQL: random() would differ from run to run.
BEGIN;
WITH RECURSIVE n(i, r) AS (
  SELECT 1, 12345 UNION ALL SELECT i + 1, (r * 48271) % 2147483647 FROM n WHERE i < (SELECT scale * 500 FROM settings))
INSERT INTO customer (id, name, city)
  SELECT i, printf('name-%05x', r % 65521), char(65 + r % 20) || char(97 + (r / 20) % 26) || 'ville' FROM n;
COMMIT;

BEGIN;
WITH RECURSIVE n(i, r) AS (
  SELECT 1, 54321 UNION ALL SELECT i + 1, (r * 48271) % 2147483647 FROM n WHERE i < (SELECT scale * 8000 FROM settings))
INSERT INTO purchase (customer, item, amount, day)
  SELECT 1 + r % (SELECT scale * 500 FROM settings), 'item-' || (r / 7 % 300), 1 + r / 11 % 1000, r / 13 % 365 FROM n;
COMMIT;
SELECT 'rows', (SELECT count(*) FROM customer), (SELECT count(*) FROM purchase);

CREATE INDEX purchase_customer ON purchase (customer, day);
CREATE INDEX purchase_item ON purchase (item);

SELECT 'city', city, count(*), sum(amount) FROM purchase JOIN customer ON customer.id = purchase.customer
  GROUP BY city ORDER BY sum(amount) DESC, city LIMIT 5;

SELECT 'best', item, day, total FROM (
  SELECT item, day, sum(amount) AS total, row_number() OVER (PARTITION BY item ORDER BY sum(amount) DESC, day) AS place
  FROM purchase GROUP BY item, day) WHERE place = 1 ORDER BY total DESC, item LIMIT 5;

SELECT 'running', max(so_far), round(avg(moving), 6) FROM (
  SELECT sum(amount) OVER (PARTITION BY customer ORDER BY day, id) AS so_far,
         avg(amount) OVER (ORDER BY day, id ROWS BETWEEN 5 PRECEDING AND CURRENT ROW) AS moving FROM purchase);

UPDATE customer SET credit = (SELECT total(amount) / 100.0 FROM purchase WHERE purchase.customer = customer.id) WHERE id % 3 = 0;
SELECT 'audit', count(*), round(sum(after - before), 2) FROM audit;

SAVEPOINT attempt;
DELETE FROM purchase WHERE day < 300;
SELECT 'in the savepoint', count(*) FROM purchase;
ROLLBACK TO attempt;
RELEASE attempt;
SELECT 'after it', count(*) FROM purchase;

CREATE VIRTUAL TABLE note USING fts5(body);
INSERT INTO note SELECT name || ' of ' || city || ' bought ' || item || ' on day ' || day
  FROM purchase JOIN customer ON customer.id = purchase.customer WHERE purchase.id % 10 = 0;
SELECT 'found', count(*) FROM note WHERE note MATCH 'bought AND "item 117"';
SELECT 'found first', body FROM note WHERE note MATCH 'ville* OR "item 123"' ORDER BY rank, rowid LIMIT 1;

-- A Mandelbrot set and a sudoku's worth of recursion, as SQLite's documentation shows them.
WITH RECURSIVE
  xaxis(x) AS (VALUES (-2.0) UNION ALL SELECT x + 0.05 FROM xaxis WHERE x < 1.2),
  yaxis(y) AS (VALUES (-1.0) UNION ALL SELECT y + 0.1 FROM yaxis WHERE y < 1.0),
  m(iter, cx, cy, x, y) AS (
    SELECT 0, x, y, 0.0, 0.0 FROM xaxis, yaxis
    UNION ALL
    SELECT iter + 1, cx, cy, x * x - y * y + cx, 2.0 * x * y + cy FROM m WHERE (x * x + y * y) < 4.0 AND iter < 28),
  m2(iter, cx, cy) AS (SELECT max(iter), cx, cy FROM m GROUP BY cx, cy),
  a(t) AS (SELECT group_concat(substr(' .+*#', 1 + min(iter / 7, 4), 1), '') FROM m2 GROUP BY cy)
SELECT group_concat(rtrim(t), x'0a') FROM a;

DELETE FROM purchase WHERE id % 4 = 0;
DROP TABLE note;
VACUUM;
SELECT 'left', count(*), sum(amount) FROM purchase;
PRAGMA integrity_check;
SELECT 'pages', page_count > 10 FROM pragma_page_count;
SELECT 'done';
