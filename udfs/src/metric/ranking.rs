//! `ndcg_at_k`, `map_at_k`, `hit_at_k` and `mrr`: how well each group's rows are ranked.

use stratagem_models::metrics::ranking::{Measure, Ranking};
use stratagem_models::metrics::statistic::Template;

use super::{Metric, parameters};
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Result;
use crate::options::Options;

pub(super) static NDCG_AT_K: Metric = Metric {
    declaration: &NDCG,
    template: |options| {
        let exponential = options.word("gain", &["linear", "exponential"])? == "exponential";
        template(Measure::Ndcg { exponential }, options)
    },
};
pub(super) static MAP_AT_K: Metric = Metric { declaration: &MAP, template: |options| template(Measure::AveragePrecision, options) };
pub(super) static HIT_AT_K: Metric = Metric { declaration: &HIT, template: |options| template(Measure::Hit, options) };
pub(super) static MRR: Metric = Metric {
    declaration: &RECIPROCAL_RANK,
    template: |options| {
        if options.is_null("k") {
            return Ok(Ranking::template(Measure::ReciprocalRank, usize::MAX));
        }
        template(Measure::ReciprocalRank, options)
    },
};

fn template(measure: Measure, options: &Options) -> Result<Template> {
    Ok(Ranking::template(measure, parameters::size(options, "k", 1..=1_000_000)?))
}

const GROUP: Parameter = Parameter::value("group", Type::Group, "What rows are ranked within, such as the user or the request.");
const RELEVANCE: Parameter = Parameter::value("relevance", Type::Outcome, "How good the row was, from 0: a click, or a grade.");
const SCORE: Parameter = Parameter::value("score", Type::Number, "The score that ranks the row, highest first.");
const K: Parameter = Parameter::value("k", Type::Integer, "How many ranks count, a constant from 1 to 1000000.").or("10");

static NDCG: Function = Function {
    name: "ndcg_at_k",
    kind: Kind::Aggregate,
    parameters: &[
        GROUP,
        RELEVANCE,
        SCORE,
        K,
        Parameter::value("gain", Type::Text, "What a relevance earns: itself (`linear`), or `2^relevance - 1` (`exponential`).")
            .or("'linear'"),
    ],
    returns: Returns::Value(Type::Double),
    summary: "Normalised discounted cumulative gain of the first k ranks, averaged over groups",
    docs: "The relevance of the first `k` rows of a group, each divided by `log2(rank + 1)`, per that of the best possible order (Järvelin and \
           Kekäläinen 2002), averaged over groups: scikit-learn's `ndcg_score`. A group without a relevant row counts as 0.\n\n\
           Rows of equal score share their ranks: the result is the mean over all their orders (McSherry and Najork 2008), so it does not depend \
           on the order of rows. Rows with a NULL argument are skipped. The result is NULL when no row is left. It needs 32 bytes per row.",
    example: "SELECT ndcg_at_k(user_id, click, p, k => 5)\n\
              FROM (VALUES (1, 1, 0.9), (1, 0, 0.2), (2, 0, 0.95), (2, 1, 0.6)) AS scored (user_id, click, p)",
    errors: &[
        Failure {
            sqlstate: "22023",
            when: "a relevance is negative or not finite, a score is NaN, or an option is not a constant within its limits",
        },
        Failure { sqlstate: "42804", when: "an argument has a type that is not a number (or boolean, for the relevance)" },
    ],
};

static MAP: Function = Function {
    name: "map_at_k",
    parameters: &[GROUP, RELEVANCE, SCORE, K],
    summary: "Mean average precision of the first k ranks, over groups",
    docs: "The precision down to each relevant row (of relevance above 0) among the first `k` of a group, added up and divided by the number of \
           relevant rows of the group or by `k`, whichever is less; averaged over groups. A group without a relevant row counts as 0.\n\n\
           Rows of equal score share their ranks: the result is the mean over all their orders (McSherry and Najork 2008). Rows with a NULL \
           argument are skipped. The result is NULL when no row is left. It needs 32 bytes per row.",
    example: "SELECT map_at_k(user_id, click, p) FROM (VALUES (1, 1, 0.9), (1, 0, 0.2), (2, 0, 0.95), (2, 1, 0.6)) AS scored (user_id, click, p)",
    ..NDCG
};

static HIT: Function = Function {
    name: "hit_at_k",
    parameters: &[GROUP, RELEVANCE, SCORE, K],
    summary: "The share of groups with a relevant row among the first k",
    docs: "How many groups have a row of relevance above 0 among their first `k`, also called hit rate or recall of one item.\n\n\
           Rows of equal score share their ranks: where a tie crosses rank `k` the group counts with the probability of a hit (McSherry and \
           Najork 2008). Rows with a NULL argument are skipped. The result is NULL when no row is left. It needs 32 bytes per row.",
    example: "SELECT hit_at_k(user_id, click, p, 1) FROM (VALUES (1, 1, 0.9), (1, 0, 0.2), (2, 0, 0.95), (2, 1, 0.6)) AS scored (user_id, click, p)",
    ..NDCG
};

static RECIPROCAL_RANK: Function = Function {
    name: "mrr",
    parameters: &[
        GROUP,
        RELEVANCE,
        SCORE,
        Parameter::value("k", Type::Integer, "How many ranks count, a constant from 1 to 1000000. Left out, all count.").or("NULL"),
    ],
    summary: "Mean reciprocal rank of the first relevant row, over groups",
    docs: "One divided by the rank of the first row of relevance above 0, averaged over groups; a group without one (among the first `k`) counts as \
           0.\n\n\
           Rows of equal score share their ranks: the result is the mean over all their orders (McSherry and Najork 2008). Rows with a NULL \
           argument are skipped. The result is NULL when no row is left. It needs 32 bytes per row.",
    example: "SELECT mrr(user_id, click, p) FROM (VALUES (1, 1, 0.9), (1, 0, 0.2), (2, 0, 0.95), (2, 1, 0.6)) AS scored (user_id, click, p)",
    ..NDCG
};
