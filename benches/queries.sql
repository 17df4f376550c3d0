-- A query a line: of ten million order lines and ten million clicks, in the style of ClickBench.
SELECT count(*) FROM orders WHERE quantity < 0
SELECT sum(quantity), count(*), avg(unit_price_gbp) FROM orders
SELECT count(DISTINCT customer_id) FROM orders
SELECT min(ordered_at), max(ordered_at) FROM orders
SELECT country, count(*) AS n FROM orders GROUP BY country ORDER BY n DESC LIMIT 10
SELECT country, sum(quantity), count(*), avg(unit_price_gbp), count(DISTINCT customer_id) FROM orders GROUP BY country ORDER BY 3 DESC, 1 LIMIT 10
SELECT stock_code, title, count(*) AS n, sum(quantity * unit_price_gbp) AS gbp FROM orders WHERE title <> '' GROUP BY stock_code, title ORDER BY n DESC, stock_code, title LIMIT 10
SELECT customer_id, date_trunc('day', ordered_at) AS day, count(*) AS n FROM orders GROUP BY customer_id, date_trunc('day', ordered_at) ORDER BY n DESC, customer_id, day LIMIT 10
SELECT count(*) FROM orders WHERE title LIKE '%HEART%'
SELECT title, min(unit_price_gbp), count(*) AS n FROM orders WHERE title LIKE '%BAG%' AND country <> 'United Kingdom' GROUP BY title ORDER BY n DESC, title LIMIT 10
SELECT sum(quantity), sum(quantity + 1), sum(quantity + 2), sum(quantity + 3), sum(quantity + 4), sum(quantity + 5), sum(quantity + 6), sum(quantity + 7) FROM orders
SELECT session_id, count(*) AS n, max(click_order) FROM clickstream GROUP BY session_id ORDER BY n DESC, session_id LIMIT 10
SELECT product_model, colour, count(*) AS n, avg(price_usd) FROM clickstream WHERE page_number <= 3 GROUP BY product_model, colour HAVING count(*) > 100 ORDER BY n DESC, product_model, colour LIMIT 10
SELECT category, event_date, count(DISTINCT session_id) FROM clickstream GROUP BY category, event_date ORDER BY category, event_date
