-- Evaluation on real data: what another policy would have earned, whether probabilities are right, and whom to write to.
--   psql -h 127.0.0.1 -p 5433 -f sql/evaluate.sql
-- Part 1 reads the Open Bandit sample (impressions of a fashion shop under two policies, ZOZO, CC BY 4.0), which `make serve` has.
-- Part 2 reads an e-mail test that is not ours to ship: half of the 64,000 customers of Kevin Hillstrom's "MineThatData E-Mail Analytics
-- And Data Mining Challenge" (2008). Get it where he published it, or take a test of your own, and put it into the data folder as
-- experiment/email_experiment_train.parquet with the columns customer_id, months_since_last_purchase, past_year_spend_band,
-- past_year_spend_usd, bought_mens, bought_womens, zip_code, new_customer, channel, arm ('Mens E-Mail', 'Womens E-Mail', 'No E-Mail'),
-- visit, conversion (0 or 1) and spend. Without it psql says so and leaves part 2 out.

\echo '1. Two policies chose what visitors saw: one at random, one by Thompson sampling. Clicks are rare, so every figure has an interval.'
DROP TABLE IF EXISTS earned;
CREATE TABLE earned AS
SELECT 'random' AS policy, campaign, count(*) AS impressions, sum(click) AS clicks, avg(click) AS ctr FROM open_bandit.impressions_random GROUP BY campaign
UNION ALL
SELECT 'thompson', campaign, count(*), sum(click), avg(click) FROM open_bandit.impressions_bts GROUP BY campaign;

SELECT policy, campaign, impressions, clicks, round(100 * ctr, 2) AS "ctr in %", bar(ctr, 0, 0.01, 20) AS " " FROM earned ORDER BY campaign, policy;

\echo '2. A log tells what the other policy would have earned, without showing anything to anybody: each row counts by the probability that the'
\echo '   new policy shows the same item, over the logged one. The Thompson policy is the shares of its own log; the random one is even.'
DROP TABLE IF EXISTS log;
CREATE TABLE log AS
WITH thompson AS (
    SELECT campaign, position, item_id, 1.0 * count(*) / sum(count(*)) OVER (PARTITION BY campaign, position) AS target
    FROM open_bandit.impressions_bts GROUP BY campaign, position, item_id
)
SELECT 'thompson' AS policy, r.impression_id, r.campaign, r.position, r.click, r.propensity, coalesce(t.target, 0.0) AS target
FROM open_bandit.impressions_random r
LEFT JOIN thompson t ON t.campaign = r.campaign AND t.position = r.position AND t.item_id = r.item_id
UNION ALL
SELECT 'random', b.impression_id, b.campaign, b.position, b.click, b.propensity, 1.0 / i.items
FROM open_bandit.impressions_bts b JOIN (SELECT campaign, count(*) AS items FROM open_bandit.items GROUP BY campaign) i ON i.campaign = b.campaign;

SELECT l.campaign, l.policy,
       round(100 * (ips_ci(click, target, propensity)).value, 2) AS ips, round(100 * (ips_ci(click, target, propensity)).low, 2) AS "from",
       round(100 * (ips_ci(click, target, propensity)).high, 2) AS "to",
       round(100 * (snips_ci(click, target, propensity)).value, 2) AS snips, round(100 * (snips_ci(click, target, propensity)).low, 2) AS "from ",
       round(100 * (snips_ci(click, target, propensity)).high, 2) AS "to ",
       round(ess(target, propensity)) AS ess, round(max_weight(target, propensity)) AS "largest weight",
       round(100 * max(e.ctr), 2) AS "it did earn"
FROM log l JOIN earned e ON e.policy = l.policy AND e.campaign = l.campaign
GROUP BY l.campaign, l.policy
ORDER BY l.campaign, l.policy;

\echo '   "ess" is how many rows of the new policy''s own log would tell as much: the random policy shows what Thompson hardly ever showed, so a few'
\echo '   rows of that log decide. The other way round the log at random has seen everything.'

\echo '3. A model narrows it down (doubly robust): train on the log of the one policy, and let it expect the clicks of the other log.'
DROP MODEL IF EXISTS evaluate_ctr;
CREATE MODEL evaluate_ctr OPTIONS (label = 'click', seed = 7) AS
SELECT click, campaign, item_id, position, user_feature_0, user_feature_1, user_feature_2, user_feature_3, affinity_shown_item
FROM open_bandit.impressions_bts;

DROP TABLE IF EXISTS expected;
CREATE TABLE expected AS
WITH thompson AS (
    SELECT campaign, position, item_id, 1.0 * count(*) / sum(count(*)) OVER (PARTITION BY campaign, position) AS target
    FROM open_bandit.impressions_bts GROUP BY campaign, position, item_id
)
SELECT r.impression_id,
       sum(t.target * predict_ctr('evaluate_ctr', campaign => r.campaign, item_id => t.item_id, position => r.position,
           user_feature_0 => r.user_feature_0, user_feature_1 => r.user_feature_1, user_feature_2 => r.user_feature_2,
           user_feature_3 => r.user_feature_3, affinity_shown_item => r.user_item_affinity[t.item_id + 1])) AS q_new
FROM open_bandit.impressions_random r JOIN thompson t ON t.campaign = r.campaign AND t.position = r.position
GROUP BY r.impression_id;

DROP TABLE IF EXISTS scored;
CREATE TABLE scored AS
SELECT r.impression_id, r.campaign, r.position, r.click, r.propensity, predict_ctr('evaluate_ctr', r) AS p FROM open_bandit.impressions_random r;

SELECT l.campaign, o.estimator, round(100 * o.value, 3) AS "in %", round(100 * o.low, 3) AS "from", round(100 * o.high, 3) AS "to",
       bar(o.value, 0, 0.02, 20) AS " "
FROM (SELECT 'all' AS campaign) l,
     ml.off_policy(query => $$
         SELECT l.click, l.target, l.propensity, s.p, e.q_new
         FROM log l JOIN scored s ON s.impression_id = l.impression_id JOIN expected e ON e.impression_id = l.impression_id
         WHERE l.policy = 'thompson' AND l.campaign = 'all'
     $$, reward => 'click', target => 'target', logged => 'propensity', q_logged => 'p', q_new => 'q_new', max_weight => 20) o;

\echo '4. Are its probabilities right where it has not been? By segment: copc is clicks over predicted clicks, 1 is right; ece the mean gap.'
SELECT campaign, position, count(*) AS impressions, sum(click) AS clicks, round(auc(click, p), 3) AS auc, round(copc(click, p), 2) AS copc,
       round(ece(click, p, binning => 'mass', bins => 5), 4) AS ece, bar(copc(click, p), 0, 2, 20) AS "0       1       2"
FROM scored GROUP BY campaign, position ORDER BY campaign, position;

SELECT count(*) > 0 AS has_experiment FROM information_schema.tables WHERE table_schema = 'experiment' AND table_name = 'email_experiment_train' \gset
\if :has_experiment

\echo '5. An e-mail test with three arms. First: did as many customers come to each arm as should have? (a p value below 0.001 is an alarm)'
SELECT round((srm_test(arm)).p_value, 3) AS p_value, (srm_test(arm)).observed AS observed FROM experiment.email_experiment_train;

\echo '   Then: what does each e-mail add to the visits, and to the money spent?'
SELECT t.treatment, t.outcome, round(t.r.control_mean, 4) AS without, round(t.r.treatment_mean, 4) AS "with", round(t.r.difference, 4) AS difference,
       round(t.r.low, 4) AS "from", round(t.r.high, 4) AS "to", round(t.r.p_value, 5) AS p_value
FROM (
    SELECT 'Mens E-Mail' AS treatment, 'visit' AS outcome,
           ab_test(visit, arm, control => 'No E-Mail', treatment => 'Mens E-Mail') AS r FROM experiment.email_experiment_train
    UNION ALL
    SELECT 'Womens E-Mail', 'visit', ab_test(visit, arm, control => 'No E-Mail', treatment => 'Womens E-Mail') FROM experiment.email_experiment_train
    UNION ALL
    SELECT 'Mens E-Mail', 'spend', ab_test(spend, arm, control => 'No E-Mail', treatment => 'Mens E-Mail') FROM experiment.email_experiment_train
    UNION ALL
    SELECT 'Womens E-Mail', 'spend', ab_test(spend, arm, control => 'No E-Mail', treatment => 'Womens E-Mail') FROM experiment.email_experiment_train
) t
ORDER BY t.outcome DESC, t.treatment;

\echo '6. Whom to write to: an uplift model learns, from the customers with odd numbers, whose visits an e-mail adds.'
DROP MODEL IF EXISTS evaluate_who;
CREATE MODEL evaluate_who OPTIONS (task = 'uplift', treatment = 'treated', outcome = 'visit', seed = 7) AS
SELECT arm <> 'No E-Mail' AS treated, visit, months_since_last_purchase, past_year_spend_band, past_year_spend_usd, bought_mens, bought_womens,
       zip_code, new_customer, channel
FROM experiment.email_experiment_train WHERE customer_id % 2 = 1;

DROP TABLE IF EXISTS customers_scored;
CREATE TABLE customers_scored AS
SELECT customer_id, arm <> 'No E-Mail' AS treated, visit, bought_mens, bought_womens, predict_uplift('evaluate_who', c) AS uplift
FROM experiment.email_experiment_train c WHERE customer_id % 2 = 0;

\echo '   Is its order better than chance, for the customers with even numbers, which it has not seen? (0 is chance)'
SELECT round((qini_ci(visit, treated, uplift)).value, 4) AS qini, round((qini_ci(visit, treated, uplift)).low, 4) AS "from",
       round((qini_ci(visit, treated, uplift)).high, 4) AS "to", round(auuc(visit, treated, uplift), 4) AS auuc,
       round(ate(visit, treated), 4) AS "an e-mail adds", round(avg(uplift), 4) AS "as predicted",
       round(uplift_at_k(visit, treated, uplift, k => 0.3), 4) AS "best 30 %"
FROM customers_scored;

\echo '   The same customers in tenths, those whom the model would write to first at the top: what the e-mail really added.'
SELECT decile, treated_rows AS "written to", control_rows AS "not", round(100 * treated_mean, 1) AS "visits in %", round(100 * control_mean, 1) AS "without",
       round(100 * effect, 1) AS added, bar(effect, 0, 0.15, 30) AS " "
FROM ml.uplift_by_decile(query => $$SELECT visit, treated, uplift FROM customers_scored$$, outcome => 'visit', treated => 'treated', uplift => 'uplift')
ORDER BY decile;

\else
\echo 'Part 2 is left out: the data folder has no experiment/email_experiment_train.parquet (see the top of this file).'
\endif
