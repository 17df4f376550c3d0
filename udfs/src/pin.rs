//! Settles, once per statement, which version of a model each call means, drops the columns of a row that the model does not read, and gives
//! the calls of a language model one memory.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;
use stratagem_models::prompt::Prompt;

use crate::ask::Memory;
use crate::classify::Classify;
use crate::error::Error;
use crate::generate::Generate;
use crate::generate_strategy::Strategy;
use crate::models::{Held, Models};
use crate::predict_ctr::Score;
use crate::prompt::Render;

/// `predict_ctr('ctr', ...)` becomes `predict_ctr('ctr@3', ...)`, the same version everywhere in the statement.
#[derive(Debug)]
pub(crate) struct PinModels(pub(crate) Arc<Models>);

/// What is settled for one statement.
#[derive(Default)]
struct Pins {
    models: HashMap<String, Arc<Held>>,
    prompts: HashMap<String, Arc<Prompt>>,
    memory: Arc<Memory>,
}

impl AnalyzerRule for PinModels {
    fn name(&self) -> &str {
        "pin_models"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut pins = Pins::default();
        let pinned = plan.transform_up_with_subqueries(|plan| {
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expression| {
                let name = names.save(&expression);
                let pinned = expression.transform_up(|expression| self.pin(expression, &mut pins))?;
                Ok(pinned.update_data(|expression| name.restore(expression)))
            })
        })?;
        Ok(pinned.data)
    }
}

impl PinModels {
    /// The version that a reference means in this statement.
    fn held(&self, model: &str, pins: &mut Pins) -> Result<Arc<Held>> {
        if let Some(held) = pins.models.get(model) {
            return Ok(Arc::clone(held));
        }
        let held = Arc::new(Held::new(&self.0, model).map_err(Error::from)?);
        pins.models.insert(model.to_owned(), Arc::clone(&held));
        Ok(held)
    }

    /// The version of a prompt that a reference means in this statement.
    fn prompt(&self, reference: &str, pins: &mut Pins) -> Result<Arc<Prompt>> {
        if let Some(held) = pins.prompts.get(reference) {
            return Ok(Arc::clone(held));
        }
        let held = Arc::new(self.0.prompts().get(reference).map_err(Error::from)?);
        pins.prompts.insert(reference.to_owned(), Arc::clone(&held));
        Ok(held)
    }

    fn pin(&self, expression: Expr, pins: &mut Pins) -> Result<Transformed<Expr>> {
        let Expr::ScalarFunction(call) = expression else { return Ok(Transformed::no(expression)) };
        if let Some(generate) = call.func.inner().downcast_ref::<Generate>() {
            let func = generate.with(&pins.memory);
            return Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: call.args })));
        }
        if let Some(strategy) = call.func.inner().downcast_ref::<Strategy>() {
            let rank_by = strategy.rank_by().and_then(|position| call.args.get(position));
            let judge = match rank_by {
                Some(Expr::Literal(rank_by, _)) => Strategy::ranks_by(rank_by).map(|name| self.held(name, pins)).transpose()?,
                _ => None,
            };
            let prompt = match strategy.prompt().and_then(|position| call.args.get(position)) {
                Some(Expr::Literal(prompt, _)) => prompt.try_as_str().flatten().map(|prompt| self.prompt(prompt, pins)).transpose()?,
                _ => None,
            };
            let mut args = call.args;
            prune(&mut args[0], &Strategy::columns(judge.as_deref(), prompt.as_deref()));
            let func = strategy.with(&pins.memory, judge, prompt);
            return Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })));
        }
        if let Some(render) = call.func.inner().downcast_ref::<Render>() {
            let Some(Expr::Literal(prompt, _)) = call.args.first() else { return Err(Render::not_constant().into()) };
            let held = self.prompt(Render::reference(prompt)?, pins)?;
            let mut args = call.args;
            args[0] = Expr::Literal(ScalarValue::Utf8(Some(held.to_string())), None);
            let variables: Vec<&str> = held.template.variables().iter().map(String::as_str).collect();
            prune(&mut args[1], &variables);
            let func = render.with(Arc::clone(&held));
            return Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })));
        }
        if let Some(classify) = call.func.inner().downcast_ref::<Classify>() {
            let constant = |position: usize| match call.args.get(position) {
                Some(Expr::Literal(value, _)) => Some(value.clone()),
                _ => None,
            };
            let Some(name) = classify.reference(constant)? else { return Ok(Transformed::no(Expr::ScalarFunction(call))) };
            let func = classify.with(self.held(&name, pins)?);
            return Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: call.args })));
        }
        let Some(score) = call.func.inner().downcast_ref::<Score>() else {
            return Ok(Transformed::no(Expr::ScalarFunction(call)));
        };
        let model = match call.args.first() {
            Some(Expr::Literal(model, _)) => score.reference(model)?.to_owned(),
            _ => return Err(score.not_constant().into()),
        };
        let held = self.held(&model, pins)?;
        let version = Expr::Literal(ScalarValue::Utf8(Some(held.pinned().to_string())), None);
        let mut args = call.args;
        args[0] = version;
        prune(&mut args[1], &held.intake().columns());
        let func = score.with(held);
        Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })))
    }
}

/// Leaves only the wanted fields of a `named_struct(...)`, so that a scan does not read the others.
fn prune(row: &mut Expr, wanted: &[&str]) {
    let Expr::ScalarFunction(call) = row else { return };
    if call.func.name() != "named_struct" || call.args.len() % 2 != 0 {
        return;
    }
    let keep = |name: &Expr| match name {
        Expr::Literal(name, _) => name.try_as_str().flatten().is_some_and(|name| wanted.contains(&name)),
        _ => true,
    };
    let pairs: Vec<Expr> = call.args.chunks(2).filter(|pair| keep(&pair[0])).flatten().cloned().collect();
    // Values by position have other names; they are all wanted.
    if !pairs.is_empty() {
        call.args = pairs;
    }
}

/// The models that a plan will score with, as settled by [`PinModels`].
pub(crate) fn held(plan: &LogicalPlan) -> Result<Vec<Arc<Held>>> {
    let mut found: Vec<Arc<Held>> = Vec::new();
    plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expression| {
            expression.apply(|expression| {
                if let Expr::ScalarFunction(call) = expression
                    && let Some(held) = call.func.inner().downcast_ref::<Score>().and_then(Score::held)
                    && !found.iter().any(|other| Arc::ptr_eq(other, held))
                {
                    found.push(Arc::clone(held));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}
