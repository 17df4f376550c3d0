-- Texts on real data: what customers think, what they ask for, which answer they get, and what a monitoring job asks every morning.
--   psql -h 127.0.0.1 -p 5433 -f sql/text.sql
-- Part 1 reads the sample shop (generated), which `make serve` has.
-- Part 2 reads texts that are not ours to ship. Put them into the data folder, or leave some or all of them out: psql says what it leaves out.
--   support/intents_train.parquet   text, intent, source: questions of a shop's customers with one of 27 intents (Bitext, CDLA-Sharing-1.0)
--   support/answers_train.parquet   question, answer: known questions with their answers (Bitext)
--   reviews/reviews_zh_train.parquet   text, positive (0 or 1): Chinese shop reviews (online_shopping_10_cats)

\echo '1. How pleased are customers? ai.sentiment needs no training and reads a hundred languages; the stars say whether it is right.'
DROP TABLE IF EXISTS felt;
CREATE TABLE felt AS SELECT review_id, ts, lang, stars, title || '. ' || text AS text, ai.sentiment(title || '. ' || text) AS sentiment FROM shop.reviews;

SELECT stars, count(*) AS reviews, round(avg(sentiment), 2) AS sentiment, bar(1 + avg(sentiment), 0, 2, 20) AS " " FROM felt GROUP BY stars ORDER BY stars;
SELECT lang, count(*) AS reviews, round(auc(CAST(stars >= 4 AS int), sentiment), 3) AS auc FROM felt WHERE stars <> 3 GROUP BY lang ORDER BY reviews DESC;

\echo '2. The least pleased customers, and what they write about. The labels are chosen here and now.'
SELECT round(sentiment, 2) AS sentiment, ai.classify(text, ARRAY['late delivery', 'bad quality', 'wrong size or fit', 'no answer from the support']) AS about, text
FROM felt WHERE lang = 'en' ORDER BY sentiment LIMIT 8;

\echo '3. Sentiment by month, and the alert of a monitoring job: months whose mean lies two standard errors below that of all months before.'
DROP TABLE IF EXISTS by_month;
CREATE TABLE by_month AS
SELECT date_trunc('month', ts) AS month, count(*) AS reviews, avg(sentiment) AS sentiment, stddev(sentiment) AS spread FROM felt GROUP BY 1;

SELECT CAST(month AS date) AS month, reviews, round(sentiment, 2) AS sentiment, bar(1 + sentiment, 0, 2, 20) AS " " FROM by_month ORDER BY month;
WITH known AS (
    SELECT *, avg(sentiment) OVER (ORDER BY month ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM by_month
)
SELECT CAST(month AS date) AS alert, reviews, round(sentiment, 2) AS sentiment, round(before, 2) AS before
FROM known WHERE sentiment < before - 2 * spread / sqrt(reviews) ORDER BY month;

\echo '4. Search by meaning: keep the vectors, ask for anything.'
DROP TABLE IF EXISTS product_vectors;
CREATE TABLE product_vectors AS SELECT product_id, title, category, ai.embed(title || ', ' || category) AS e FROM shop.products;
SELECT title, category, round(ai.similarity(e, 'something warm for a walk in the snow'), 2) AS likeness FROM product_vectors ORDER BY likeness DESC LIMIT 5;

\echo '5. What does a line of a supplier name? Brands and colours are learned as spans of characters, and found in lines that were not shown.'
DROP TABLE IF EXISTS lines;
CREATE TABLE lines AS
SELECT product_id, brand, colour, CASE WHEN product_id % 2 = 0 THEN brand || ' ' || what || ' in ' || colour ELSE colour || ' ' || what || ' by ' || brand END AS line
FROM (SELECT product_id, brand, split_part(title, ', ', 1) AS what, split_part(title, ', ', 2) AS colour FROM shop.products) AS p WHERE colour <> '';

SELECT epoch, rows, round(train_loss, 3) AS train_loss, round(validation_loss, 3) AS validation_loss, round(seconds) AS seconds, version
FROM finetune('supplier_lines', $$SELECT line, ARRAY[named_struct('start', strpos(line, brand), 'length', length(brand), 'label', 'brand'),
                                                     named_struct('start', strpos(line, colour), 'length', length(colour), 'label', 'colour')] AS spans
                                  FROM lines WHERE product_id % 5 <> 0$$, label => 'spans', task => 'token_classification', base => 'minilm', method => 'full', epochs => 8)
WHERE version IS NOT NULL;
SELECT line, (e).label, (e).text FROM (SELECT line, unnest(ai.entities(line, 'supplier_lines')) AS e FROM lines WHERE product_id IN (5, 10)) AS f ORDER BY line, (e).start;
SELECT label, count(*) FILTER (WHERE text = CASE label WHEN 'brand' THEN brand ELSE colour END) AS right, count(*) AS found
FROM (SELECT brand, colour, (e).label, (e).text FROM (SELECT *, unnest(ai.entities(line, 'supplier_lines')) AS e FROM lines WHERE product_id % 5 = 0) AS f) AS g
GROUP BY label ORDER BY label;

\echo '6. The shop''s own way of writing: the language model learns it from a few approved texts, here all with the same headline.'
DROP TABLE IF EXISTS approved;
CREATE TABLE approved AS
SELECT asked, ' Just in for you' || substr(answered, strpos(answered, E'\nbody:')) AS answered
FROM ml.generate_strategies(query => $$SELECT * FROM shop.customers WHERE customer_id <= 24$$, n => 1) WHERE answered IS NOT NULL;

SELECT epoch, rows, round(train_loss, 2) AS train_loss, round(validation_loss, 2) AS validation_loss, round(seconds) AS seconds, version
FROM finetune('shop_copy', $$SELECT asked, answered FROM approved$$, label => 'answered', task => 'generation', chat => false);
SELECT customer_id, (generate_strategy(c)).headline AS before, (generate_strategy(c, model => 'shop_copy')).headline AS after
FROM shop.customers c WHERE customer_id BETWEEN 101 AND 104 ORDER BY customer_id;

SELECT count(*) FILTER (WHERE table_schema = 'support' AND table_name = 'intents_train') > 0 AS has_intents,
       count(*) FILTER (WHERE table_schema = 'support' AND table_name = 'answers_train') > 0 AS has_answers,
       count(*) FILTER (WHERE table_schema = 'reviews' AND table_name = 'reviews_zh_train') > 0 AS has_chinese
FROM information_schema.tables \gset

\if :has_intents
\echo '7. What do customers want? A model of their intents, trained in one statement on four of five questions, judged on the fifth.'
DROP TABLE IF EXISTS asked;
CREATE TABLE asked AS
SELECT text, intent, row_number() OVER (ORDER BY md5(text), intent) % 5 = 0 AS held FROM support.intents_train WHERE source = 'bitext' AND trim(text) <> '';
SELECT epoch, rows, round(train_loss, 4) AS train_loss, round(validation_loss, 4) AS validation_loss, round(seconds) AS seconds, version
FROM finetune('shop_intent', $$SELECT text, intent FROM asked WHERE NOT held$$, 'intent', task => 'text_classification', ensembles => 1) WHERE version IS NOT NULL;

DROP TABLE IF EXISTS told;
CREATE TABLE told AS SELECT text, intent AS label, ai.classify(text, model => 'shop_intent') AS predicted FROM asked WHERE held;
\echo '   The intents that are told worst, and all together:'
(SELECT class, round(precision, 3) AS precision, round(recall, 3) AS recall, round(f1, 3) AS f1, support
 FROM ml.classification_report($$SELECT label, predicted FROM told$$, 'label', 'predicted') WHERE class NOT IN ('accuracy', 'macro avg', 'weighted avg', 'micro avg') ORDER BY f1 LIMIT 5)
UNION ALL
(SELECT class, round(precision, 3), round(recall, 3), round(f1, 3), support
 FROM ml.classification_report($$SELECT label, predicted FROM told$$, 'label', 'predicted') WHERE class IN ('accuracy', 'macro avg', 'weighted avg', 'micro avg') ORDER BY class);
SELECT question, ai.classify(question, model => 'shop_intent') AS intent
FROM (VALUES ('i want my money back'), ('where''s my stuff??'), ('change the delivery adress of my order')) AS v(question);
\else
\echo '7. left out: support/intents_train.parquet is not in the data folder'
\endif

\if :has_answers
\echo '8. Which answer do they get? Words and meaning together; no row where no answer is good enough.'
SELECT round(score, 2) AS score, question, left(answer, 90) || '...' AS answer
FROM ai.match_answer('what is your refund policy?', query => $$SELECT question, answer FROM support.answers_train$$, top_k => 3);
SELECT count(*) AS "answers to who won the world cup in 1974"
FROM ai.match_answer('who won the world cup in 1974?', query => $$SELECT question, answer FROM support.answers_train$$);
\else
\echo '8. left out: support/answers_train.parquet is not in the data folder'
\endif

\if :has_chinese
\echo '9. Chinese reviews: characters and their neighbours are read, so no list of words is needed. Judged on 2,000 reviews that were held out.'
DROP TABLE IF EXISTS chinese;
CREATE TABLE chinese AS
SELECT text, positive, row_number() OVER (ORDER BY md5(text), positive) AS place FROM reviews.reviews_zh_train WHERE trim(text) <> '' AND positive IS NOT NULL;
SELECT epoch, rows, round(validation_loss, 4) AS validation_loss, round(seconds) AS seconds, version
FROM finetune('review_zh', $$SELECT text, positive FROM chinese WHERE place > 2000$$, 'positive', task => 'text_classification', ensembles => 1, epochs => 6)
WHERE version IS NOT NULL;
SELECT class, round(f1, 3) AS f1, support FROM ml.classification_report(
    $$SELECT positive::text AS label, ai.classify(text, model => 'review_zh') AS predicted FROM chinese WHERE place <= 2000$$, 'label', 'predicted') ORDER BY class;
\else
\echo '9. left out: reviews/reviews_zh_train.parquet is not in the data folder'
\endif
