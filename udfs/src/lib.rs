//! The SQL functions of Stratagem.
//!
//! Each function is declared once, in the file of its name; [`declaration`] describes what is derived from that. [`register_all`] adds the
//! functions to a session of the engine, [`rewrite::rewrite`] turns calls as users write them into calls as the engine plans them.
//! This crate knows Arrow and SQL functions. It knows no server.

use std::sync::Arc;

use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::planner::RelationPlanner;

mod ask;
pub mod catalog;
pub mod classification_report;
pub mod classify;
pub mod compare;
pub mod confusion_matrix;
pub mod count_tokens;
pub mod curve;
pub mod declaration;
mod defer;
pub mod drawing;
pub mod embed;
pub mod encoder;
pub mod error;
pub mod evaluate;
pub mod experiment;
pub mod explain_predict;
pub mod feature_info;
mod features;
pub mod finetune;
mod gather;
pub mod generate;
pub mod generate_strategy;
pub mod global_explain;
mod intake;
pub mod language;
pub mod match_answer;
mod metric;
pub mod models;
mod named;
pub mod notice;
pub mod off_policy;
mod options;
mod pin;
pub mod predict;
pub mod predict_ctr;
pub mod predict_cvr;
pub mod predict_uplift;
pub mod prepare;
pub mod prompt;
pub mod reference;
mod relation;
mod resident;
pub mod rewrite;
pub mod sample_size;
pub mod sentiment;
pub mod similarity;
pub mod spelling;
mod stop;
pub mod usage;

pub use relation::writes;

use models::Models;
use relation::{Relations, WholeRelations};

/// Adds all functions over these models to a session: the functions themselves, the planner of those that return rows, the rules that settle
/// model versions, and the query planner that runs them. The builder's own functions, planners and rules stay; its query planner is replaced.
pub fn register_all(mut builder: SessionStateBuilder, models: Arc<Models>) -> SessionStateBuilder {
    let scores = [predict_ctr::function(&models), predict_cvr::function(&models), predict_uplift::function(&models)];
    let [predict_ctr, predict_cvr, predict_uplift] = scores.clone();
    let compare = compare::Compare { models: Arc::clone(&models), predict_ctr: Arc::clone(&predict_ctr) };
    let evaluate = evaluate::Evaluate {
        models: Arc::clone(&models),
        predict_ctr: Arc::clone(&predict_ctr),
        predict_uplift: Arc::clone(&predict_uplift),
        aggregates: metric::functions().collect(),
    };
    let classify = classify::function(&models);
    let estimate = classify::estimate::function(&models);
    let [entities, tags] = classify::tagging::functions(&models);
    let predict = predict::Predict {
        models: Arc::clone(&models),
        predict_ctr,
        predict_cvr,
        predict_uplift,
        texts: predict::Texts::new(&classify, &estimate, &entities, &tags),
    };
    let relations = Relations::new(
        vec![
            Arc::new(classification_report::ClassificationReport) as _,
            Arc::new(compare) as _,
            Arc::new(evaluate) as _,
            Arc::new(explain_predict::ExplainPredict(Arc::clone(&models))) as _,
            Arc::new(feature_info::FeatureInfo(Arc::clone(&models))) as _,
            Arc::new(finetune::Finetune(Arc::clone(&models))) as _,
            Arc::new(global_explain::GlobalExplain(Arc::clone(&models))) as _,
            Arc::new(match_answer::MatchAnswer(Arc::clone(&models))) as _,
            Arc::new(off_policy::OffPolicy) as _,
            curve::CurveFunction::<curve::calibration_curve::CalibrationCurve>::relation(),
            curve::CurveFunction::<curve::lift_curve::LiftCurve>::relation(),
            curve::CurveFunction::<curve::pr_curve::PrCurve>::relation(),
            curve::CurveFunction::<curve::roc_curve::RocCurve>::relation(),
            experiment::PictureFunction::<experiment::qini_curve::QiniCurve>::relation(),
            experiment::PictureFunction::<experiment::uplift_by_decile::UpliftByDecile>::relation(),
            experiment::PictureFunction::<experiment::uplift_curve::UpliftCurve>::relation(),
        ],
        vec![
            Arc::new(confusion_matrix::ConfusionMatrix) as _,
            Arc::new(generate_strategy::candidates::Candidates::new(&models)) as _,
            Arc::new(predict) as _,
        ],
    );
    let language =
        [generate::function(&models), generate_strategy::function(&models), count_tokens::function(&models), prompt::function(&models)];
    let texts = [
        classify::probability::function(&models),
        estimate,
        entities,
        tags,
        classify,
        embed::function(&models),
        sentiment::function(&models),
        similarity::function(&models),
    ];
    builder.scalar_functions().get_or_insert_default().extend(scores.into_iter().chain(language).chain(texts));
    builder.aggregate_functions().get_or_insert_default().extend(metric::functions());
    builder.scalar_functions().get_or_insert_default().extend(drawing::functions().into_iter().chain(prepare::maps()));
    builder.scalar_functions().get_or_insert_default().push(sample_size::function());
    builder.window_functions().get_or_insert_default().extend(prepare::windows());
    let planner: Arc<dyn RelationPlanner> = Arc::new(relations.clone());
    builder.relation_planners().get_or_insert_default().insert(0, planner);
    builder
        .with_analyzer_rule(Arc::new(pin::PinModels(models)))
        .with_analyzer_rule(Arc::new(WholeRelations))
        .with_optimizer_rule(Arc::new(defer::HoistCalls))
        .with_optimizer_rule(Arc::new(defer::CallLate))
        .with_query_planner(Arc::new(relations))
}

#[cfg(test)]
mod tests;
