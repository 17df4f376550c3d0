-- The main job on real data: the Open Bandit sample (impressions of a fashion shop under two policies, ZOZO, CC BY 4.0).
-- `stratagem demo` runs this file against a server of its own; psql runs it as it is:
--   psql -h 127.0.0.1 -p 5433 -f sql/demo.sql

\echo '1. The tables. Every Parquet file under the data folder is one, and its sub-folder is the schema.'
SELECT table_schema AS schema, table_name AS "table"
FROM information_schema.tables
WHERE table_schema IN ('open_bandit', 'shop')
ORDER BY 1, 2;

\echo '2. Two policies chose what visitors saw: one at random, one by Thompson sampling. Clicks are rare.'
SELECT 'random' AS policy, campaign, count(*) AS impressions, sum(click) AS clicks, round(100 * avg(click), 2) AS "ctr in %"
FROM open_bandit.impressions_random GROUP BY campaign
UNION ALL
SELECT 'thompson', campaign, count(*), sum(click), round(100 * avg(click), 2)
FROM open_bandit.impressions_bts GROUP BY campaign
ORDER BY 1, 2;

\echo '3. Train a click model on the impressions of the random policy: one row per epoch as it happens, the last one names the saved version.'
\echo '   The model is the mean of three nets; nothing but the label is needed.'
SELECT member AS net, epoch, rows, round(train_loss, 4) AS train_loss, round(validation_loss, 4) AS validation_loss,
       round(validation_auc, 3) AS validation_auc, round(seconds, 1) AS seconds, version
FROM finetune(
    model => 'ctr',
    label => 'click',
    seed => 7,
    query => $$
        SELECT click, campaign, item_id, position, user_feature_0, user_feature_1, user_feature_2, user_feature_3, affinity_shown_item
        FROM open_bandit.impressions_random
    $$);

\echo '   What became of each column: integers are categories and numbers, rare values share an embedding, columns that tell nothing are left out.'
SELECT feature, sql_type, encoding, parameters FROM ml.feature_info('ctr') ORDER BY position;

\echo '4. Score the impressions of the other policy, which the model has never seen. predict_ctr takes its features by name from the row.'
DROP TABLE IF EXISTS scored;
CREATE TABLE scored AS
SELECT i.impression_id, i.campaign, i.position, i.item_id, i.click, i.propensity, predict_ctr('ctr', i) AS p
FROM open_bandit.impressions_bts i;

SELECT impression_id, item_id, position, click, round(p, 5) AS p FROM scored ORDER BY p DESC LIMIT 5;

\echo '5. Does it rank, and are its probabilities right? An AUC of 0.5 is chance; with a hundred clicks in the log, expect no wonders.'
SELECT round(auc(click, p), 3) AS auc, round(logloss(click, p), 4) AS logloss,
       round(avg(click), 5) AS "clicked", round(avg(p), 5) AS "predicted"
FROM scored;

\echo '6. Score every item for every impression: what would the model have shown?'
DROP TABLE IF EXISTS candidates;
CREATE TABLE candidates AS
SELECT i.impression_id, i.position, t.campaign, t.item_id,
       predict_ctr('ctr', campaign => i.campaign, item_id => t.item_id, position => i.position,
                   user_feature_0 => i.user_feature_0, user_feature_1 => i.user_feature_1,
                   user_feature_2 => i.user_feature_2, user_feature_3 => i.user_feature_3,
                   affinity_shown_item => i.user_item_affinity[t.item_id + 1]) AS p
FROM open_bandit.impressions_bts i JOIN open_bandit.items t ON t.campaign = i.campaign;

SELECT count(*) AS candidates, count(DISTINCT impression_id) AS impressions FROM candidates;

\echo '7. What the policy "show the item with the highest predicted CTR" would have earned: inverse propensity scoring (ips) on the log.'
\echo '   It counts only impressions where the log shows the same item, each by one over the probability that it was shown.'
WITH best AS (
    SELECT impression_id, item_id
    FROM (SELECT impression_id, item_id, row_number() OVER (PARTITION BY impression_id ORDER BY p DESC, item_id) AS place FROM candidates) c
    WHERE place = 1
)
SELECT s.campaign,
       count(*) AS impressions,
       sum(CASE WHEN b.item_id = s.item_id THEN 1 ELSE 0 END) AS "same item",
       round(100 * avg(s.click), 3) AS "ctr of the log in %",
       round(100 * ips(s.click, CASE WHEN b.item_id = s.item_id THEN 1.0 ELSE 0.0 END, s.propensity), 3) AS "ips of the new policy in %",
       round(100 * stddev(CASE WHEN b.item_id = s.item_id THEN s.click / s.propensity ELSE 0 END) / sqrt(count(*)), 3) AS "standard error"
FROM scored s JOIN best b ON b.impression_id = s.impression_id
GROUP BY s.campaign
ORDER BY s.campaign;

\echo '8. The ten best items per position of the page (campaign "all"): item and its mean predicted CTR in %.'
WITH ranked AS (
    SELECT position, item_id, avg(p) AS p, row_number() OVER (PARTITION BY position ORDER BY avg(p) DESC, item_id) AS place
    FROM candidates WHERE campaign = 'all'
    GROUP BY position, item_id
)
SELECT place,
       max(CASE WHEN position = 1 THEN item_id END) AS "left", round(100 * max(CASE WHEN position = 1 THEN p END), 3) AS "left ctr",
       max(CASE WHEN position = 2 THEN item_id END) AS "centre", round(100 * max(CASE WHEN position = 2 THEN p END), 3) AS "centre ctr",
       max(CASE WHEN position = 3 THEN item_id END) AS "right", round(100 * max(CASE WHEN position = 3 THEN p END), 3) AS "right ctr"
FROM ranked WHERE place <= 10
GROUP BY place
ORDER BY place;

\echo '9. What to say to five customers of the sample shop. The data decides what is promoted: the product that each put into the cart last.'
\echo '   The language model on this machine words it, and every draft is checked against these facts.'
SELECT q.customer_id, (s).product, (s).headline, (s).body, (s).written_by
FROM (
    SELECT l.customer_id, generate_strategy(l, goal => 'cart', offer => '10% off', seed => l.customer_id) AS s
    FROM (
        SELECT e.customer_id, p.title, row_number() OVER (PARTITION BY e.customer_id ORDER BY e.ts DESC, e.product_id) AS place
        FROM shop.events e JOIN shop.products p ON p.product_id = e.product_id
        WHERE e.kind = 'cart'
    ) l
    WHERE l.place = 1
    ORDER BY l.customer_id LIMIT 5
) q
ORDER BY q.customer_id;
