//! `gauc(label, score, group)`: the area under the ROC curve within groups.

use stratagem_models::metrics::gauc::{Answer, Gauc};

use super::Metric;
use super::parameters::{self, HIGH, LABEL, LEVEL, LOW, SCORE, VALUE, WRONG_TYPE, level};
use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type};

pub(super) static GAUC: Metric = Metric { declaration: &DECLARATION, template: |_| Ok(Gauc::template(Answer::Value)) };
pub(super) static GAUC_DETAIL: Metric = Metric { declaration: &DETAIL, template: |_| Ok(Gauc::template(Answer::Detail)) };
pub(super) static GAUC_CI: Metric = Metric {
    declaration: &INTERVAL,
    template: |options| {
        let resamples = parameters::size(options, "resamples", 10..=100_000)?;
        let seed = options.whole("seed", i64::MIN..=i64::MAX)?.cast_unsigned();
        Ok(Gauc::template(Answer::Interval { level: level(options)?, resamples, seed }))
    },
};

const GROUP: Parameter = Parameter::value("group", Type::Group, "What rows are ranked within, such as the user.");

static DECLARATION: Function = Function {
    name: "gauc",
    kind: Kind::Aggregate,
    parameters: &[LABEL, SCORE, GROUP],
    returns: Returns::Value(Type::Double),
    summary: "Area under the ROC curve within groups, such as users, weighted by their rows",
    docs: "`auc` of each group, averaged with the number of rows (impressions) of the group as its weight (Zhu et al. 2017). A ranking is shown to \
           one user at a time, so this is closer to what users see than `auc`, which also rewards telling users apart. Groups without both \
           classes have no area and are left out; `gauc_detail` tells how many.\n\n\
           Rows with a NULL argument are skipped. The result is NULL when no group has both classes. It needs 24 bytes of memory per row. A group \
           is told by 64 bits (numbers, times) or by a hash of 96 bits (texts).",
    example: "SELECT gauc(click, p, user_id)\n\
              FROM (VALUES (1, 0.9, 'ann'), (0, 0.2, 'ann'), (0, 0.95, 'bob'), (1, 0.6, 'bob')) AS scored (click, p, user_id)",
    errors: &[Failure { sqlstate: "22023", when: "a label is not 0 or 1, or a score is NaN" }, WRONG_TYPE],
};

static DETAIL: Function = Function {
    name: "gauc_detail",
    returns: Returns::Struct(&[
        VALUE,
        Column::new("groups", Type::BigInt, "Groups with both classes."),
        Column::new("groups_left_out", Type::BigInt, "Groups of one class, which have no area."),
        Column::new("rows", Type::BigInt, "Rows of the groups that count."),
        Column::new("rows_left_out", Type::BigInt, "Rows of the groups that are left out."),
    ]),
    summary: "Area under the ROC curve within groups, with the groups and rows it stands on",
    docs: "`gauc` with how much of the data it stands on: where most users never click, most groups are left out, and the value speaks for few.\n\n\
           Rows with a NULL argument are skipped and not counted. The value is NULL when no group has both classes.",
    example: "SELECT (d).value, (d).groups, (d).groups_left_out FROM (\n    \
              SELECT gauc_detail(click, p, user_id) AS d\n    \
              FROM (VALUES (1, 0.9, 7), (0, 0.2, 7), (0, 0.95, 8)) AS scored (click, p, user_id)) AS q",
    ..DECLARATION
};

static INTERVAL: Function = Function {
    name: "gauc_ci",
    parameters: &[
        LABEL,
        SCORE,
        GROUP,
        LEVEL,
        Parameter::value("resamples", Type::Integer, "How often groups are drawn anew, from 10 to 100000.").or("1000"),
        Parameter::value("seed", Type::BigInt, "Decides the random numbers: the same seed gives the same limits.").or("0"),
    ],
    returns: Returns::Struct(&[VALUE, LOW, HIGH]),
    summary: "Area under the ROC curve within groups with a confidence interval",
    docs: "`gauc` with the percentile interval of a bootstrap over groups (Efron 1979): groups with both classes are drawn with replacement, \
           whole, because rows of one user depend on each other. More than 10000 groups are drawn in as many random bundles. The limits depend \
           on the seed, not on the order of rows.\n\n\
           Rows with a NULL argument are skipped. The value is NULL when no group has both classes, the limits when fewer than two have.",
    example: "SELECT gauc_ci(click, p, user_id, resamples => 200)\n\
              FROM (VALUES (1, 0.9, 'ann'), (0, 0.2, 'ann'), (0, 0.95, 'bob'), (1, 0.6, 'bob')) AS scored (click, p, user_id)",
    errors: &[
        Failure { sqlstate: "22023", when: "a label is not 0 or 1, a score is NaN, or an option is not a constant within its limits" },
        WRONG_TYPE,
    ],
    ..DECLARATION
};
