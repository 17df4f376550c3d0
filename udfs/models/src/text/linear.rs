//! A linear model of n-grams beside the nets: logistic regression whose inputs are scaled by the log ratio of their counts in texts of a class and in
//! the others (Wang and Manning 2012, "Baselines and Bigrams"), fitted in its dual form (Yu, Huang and Lin 2011). What it gets wrong is not what nets
//! get wrong, so that the mean of both is better than either (Mesnil et al. 2014).

use std::sync::atomic::{AtomicBool, Ordering};

use rand::seq::SliceRandom;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::{Held, Task, loss};
use crate::click::Member;
use crate::click::trainer::{Job, Outcome, Stream, random, threads};
use crate::click::{Progress, TrainOptions};
use crate::error::{Error, Result};
use crate::examples::Window;
use crate::features::encode::Places;
use crate::net::{Net, Parameter};

/// N-grams that are held in memory at most: of more texts a random sample is fitted.
const MOST: usize = 1 << 25;

/// How much the rows count beside the penalty of the weights, where the mean squared length of a row is 1.
const STRENGTH: f64 = 10.0;

/// A mean squared length of the rows that is no more than rounding.
const LEAST: f64 = 1e-6;

/// Passes over the rows at most, and the share of all costs by which the numbers of the rows move in the last one.
const PASSES: usize = 50;
const TOLERANCE: f64 = 1e-3;

/// The share of the linear model in the mean.
const SHARE: f32 = 0.5;

/// Whether a net can stand for a linear model: it reads nothing but n-grams, and has a number per embedding for each class.
pub(super) fn fits(net: &Net, options: &TrainOptions) -> bool {
    let embeds = net.fields == 1 && net.dense == 0 && net.cross_layers > 0 && net.outputs() <= net.stride();
    embeds && net.classes > 0 && options.ensembles > 1
}

/// Adds the linear model to nets: in the mean of the logits it counts as much as all nets together, or nothing, where the held-out rows are better
/// off without it.
///
/// Errors: [`Error::Canceled`], and what reading the examples gives.
pub(super) fn join(job: &Job<'_>, net: &Net, options: &TrainOptions, task: Task, outcomes: &mut Vec<Outcome>) -> Result<()> {
    let Some(first) = outcomes.first() else { return Ok(()) };
    let (labels, kept) = (first.labels.clone(), first.kept.clone());
    let linear = Linear::fit(job, net.outputs(), options)?;
    let own = linear.held(job)?;
    let nets = super::train::held(outcomes, Vec::new()).values;
    let mixed = |share: f32| -> Vec<f32> { nets.iter().zip(&own).map(|(net, own)| net * (1.0 - share) + own * share).collect() };
    let loss = |values| loss(task, net.outputs(), &Held { values, labels: labels.clone(), tokens: Vec::new() }, job.target.balance);
    let helps = loss(mixed(SHARE)).zip(loss(mixed(0.0))).is_none_or(|(with, without)| with <= without);
    let share = if helps { SHARE } else { 0.0 };
    // All count the same in the mean, so the logits are scaled.
    let count = outcomes.len() as f32 + 1.0;
    for outcome in outcomes.iter_mut() {
        let by = (1.0 - share) * count / (count - 1.0);
        let head = outcome.member.parameters.iter_mut().filter(|parameter| parameter.name.starts_with("head."));
        head.flat_map(|parameter| &mut parameter.values).chain(&mut outcome.logits).for_each(|value| *value *= by);
    }
    let by = share * count;
    outcomes.push(Outcome {
        member: linear.member(net, by),
        kept: Progress { member: outcomes.len() as u32 + 1, ..kept },
        logits: own.into_iter().map(|logit| logit * by).collect(),
        labels,
    });
    Ok(())
}

/// Logits are sums of these.
struct Linear {
    classes: usize,
    /// Places x classes.
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    /// Fits a model of each class against all others; of two classes one model tells both.
    fn fit(job: &Job<'_>, classes: usize, options: &TrainOptions) -> Result<Self> {
        let (rows, of) = Rows::read(job)?;
        let places = job.uses.len();
        let two = classes == 2 && !options.several;
        let problems: Vec<usize> = if two { vec![1] } else { (0..classes).collect() };
        let solve = |class: usize| {
            let is = |row: usize| of[row * classes + class];
            let ratios = rows.ratios(places, is);
            let weight = |row: usize| {
                let own = job.target.balance.iter().zip(&of[row * classes..]).find(|(_, is)| **is);
                own.map_or(1.0, |(weight, _)| f64::from(*weight))
            };
            solve(&rows, &ratios, is, weight, options.seed.wrapping_add(class as u64), job.stop)
        };
        let solved = threads(options.threads)?.install(|| problems.into_par_iter().map(solve).collect::<Result<Vec<_>>>())?;
        let mut linear = Self { classes, weights: vec![0.0; places * classes], bias: vec![0.0; classes] };
        for (class, (weights, bias)) in solved.iter().enumerate() {
            let columns = if two { vec![(0, -0.5), (1, 0.5)] } else { vec![(class, 1.0)] };
            for (column, by) in columns {
                linear.bias[column] = bias * by;
                let own = linear.weights[column..].iter_mut().step_by(classes);
                own.zip(weights).for_each(|(own, weight)| *own = weight * by);
            }
        }
        Ok(linear)
    }

    /// The logits of the held-out rows.
    fn held(&self, job: &Job<'_>) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        each(
            job,
            |row| job.parts.is_held(row),
            |places, labels| {
                let start = logits.len();
                logits.extend(std::iter::repeat_n(&self.bias, labels.len()).flatten());
                for (row, place, weight) in places.summands() {
                    let own = &self.weights[place * self.classes..][..self.classes];
                    logits[start + row * self.classes..].iter_mut().zip(own).for_each(|(logit, own)| *logit += own * weight);
                }
                true
            },
        )?;
        Ok(logits)
    }

    /// A net that gives these logits times `by`: its embeddings begin with the logits, which its cross layers let pass and its head picks.
    fn member(&self, net: &Net, by: f32) -> Member {
        let stride = net.stride();
        let mut table = vec![0.0; self.weights.len() / self.classes * stride];
        for (row, own) in table.chunks_exact_mut(stride).zip(self.weights.chunks_exact(self.classes)) {
            row[..self.classes].copy_from_slice(own);
        }
        let parameter = |(name, shape): (String, Vec<usize>)| {
            let mut values = vec![0.0; shape.iter().product()];
            match name.as_str() {
                "head.weight" => values.iter_mut().step_by(self.classes + 1).take(self.classes).for_each(|value| *value = by),
                "head.bias" => values.iter_mut().zip(&self.bias).for_each(|(value, bias)| *value = bias * by),
                _ => {}
            }
            Parameter { name, shape, values }
        };
        Member { parameters: net.shapes().into_iter().map(parameter).collect(), table }
    }
}

/// Gives `read` the places of the rows that `keep` names, and their labels, until that has enough.
fn each(job: &Job<'_>, keep: impl Fn(usize) -> bool, mut read: impl FnMut(&Places, &[&[f32]]) -> bool) -> Result<()> {
    let (mut places, tasks) = (Places::default(), job.examples.tasks());
    for index in 0..job.examples.windows() {
        let Window { block, first, rows, start } = job.examples.window(index)?;
        let own: Vec<u32> = (first..first + rows).filter(|row| keep(start - first + row)).map(|row| row as u32).collect();
        job.encoding.places(&block.batch, &own, &mut places);
        let labels: Vec<&[f32]> = own.iter().map(|row| &block.labels[*row as usize * tasks..][..tasks]).collect();
        if !read(&places, &labels) {
            break;
        }
    }
    Ok(())
}

/// Rows of n-grams, each with its weight.
struct Rows {
    /// Where each row begins.
    starts: Vec<usize>,
    items: Vec<(u32, f32)>,
}

impl Rows {
    /// The rows that are trained on, and for each class whether they are of it, rows x classes.
    fn read(job: &Job<'_>) -> Result<(Self, Vec<bool>)> {
        let (mut rows, mut of) = (Self { starts: vec![0], items: Vec::new() }, Vec::new());
        let mut row: Vec<(u32, f32)> = Vec::new();
        each(
            job,
            |row| job.parts.is_trained(row),
            |places, labels| {
                let mut summands = places.summands().peekable();
                for (at, labels) in labels.iter().enumerate() {
                    row.clear();
                    while let Some((_, place, weight)) = summands.next_if(|(row, ..)| *row == at) {
                        row.push((place as u32, weight));
                    }
                    row.sort_unstable_by_key(|(place, _)| *place);
                    row.dedup_by(|next, kept| {
                        next.0 == kept.0 && {
                            kept.1 += next.1;
                            true
                        }
                    });
                    if rows.items.len() + row.len() > MOST {
                        return false;
                    }
                    rows.items.extend_from_slice(&row);
                    rows.starts.push(rows.items.len());
                    of.extend(labels.iter().map(|label| *label > 0.5));
                }
                true
            },
        )?;
        Ok((rows, of))
    }

    fn count(&self) -> usize {
        self.starts.len() - 1
    }

    fn row(&self, row: usize) -> &[(u32, f32)] {
        &self.items[self.starts[row]..self.starts[row + 1]]
    }

    /// The log ratio of the share that each of the n-grams has in the rows of a class and in the others, each counted once more than it occurs.
    fn ratios(&self, places: usize, is: impl Fn(usize) -> bool) -> Vec<f32> {
        let mut counts = vec![[1.0f64; 2]; places];
        for row in 0..self.count() {
            let side = usize::from(is(row));
            self.row(row).iter().for_each(|(place, _)| counts[*place as usize][side] += 1.0);
        }
        let all = counts.iter().fold([0.0; 2], |all, [without, with]| [all[0] + without, all[1] + with]);
        counts.iter().map(|[without, with]| ((with / all[1]) / (without / all[0])).ln() as f32).collect()
    }
}

/// The weights of a logistic regression by coordinate descent over its dual form, and the bias, which is a weight like any other: the minimum of half
/// their squared length plus the cost of each row times its logarithmic loss. `weight` is how much a row counts. Weights are given for the inputs as
/// they are, not as they are scaled.
///
/// In the dual each row has a number between 0 and its cost, here as the logit of its share of the cost; the one of a row alone is where an
/// increasing function is 0.
fn solve(
    rows: &Rows,
    ratios: &[f32],
    is: impl Fn(usize) -> bool,
    weight: impl Fn(usize) -> f64,
    seed: u64,
    stop: &AtomicBool,
) -> Result<(Vec<f32>, f32)> {
    let scales: Vec<f32> = ratios.iter().map(|ratio| ratio * ratio).collect();
    let square = |row: usize| {
        let of = rows.row(row).iter().map(|(place, value)| f64::from(scales[*place as usize] * value * value));
        of.sum::<f64>()
    };
    let squares: Vec<f64> = (0..rows.count()).map(square).collect();
    let mean = squares.iter().sum::<f64>() / rows.count().max(1) as f64;
    // Where no n-gram tells anything all lengths are 0, up to rounding, and the bias alone is fitted.
    let strength = STRENGTH / if mean > LEAST { mean } else { 1.0 };
    let all = strength * (0..rows.count()).map(&weight).sum::<f64>();
    let (mut weights, mut bias) = (vec![0.0f32; ratios.len()], 0.0f64);
    // Each begins near 0, as the weights do.
    let mut logits = vec![-20.0f64; rows.count()];
    let mut order: Vec<usize> = (0..rows.count()).collect();
    let mut rng = random(seed, Stream::Order);
    for _ in 0..PASSES {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Canceled);
        }
        order.shuffle(&mut rng);
        let mut moved = 0.0;
        for row in &order {
            let (own, square, cost) = (rows.row(*row), 1.0 + squares[*row], strength * weight(*row));
            let sign = if is(*row) { 1.0 } else { -1.0 };
            let sum: f32 = own.iter().map(|(place, value)| weights[*place as usize] * value).sum();
            let margin = sign * (f64::from(sum) + bias);
            let before = cost * sigmoid(logits[*row]);
            logits[*row] = root(square, cost, before, margin, logits[*row]);
            let step = sign * (cost * sigmoid(logits[*row]) - before);
            moved += step.abs();
            bias += step;
            own.iter().for_each(|(place, value)| weights[*place as usize] += step as f32 * scales[*place as usize] * value);
        }
        if moved < TOLERANCE * all {
            break;
        }
    }
    Ok((weights, bias as f32))
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// Where `t + square * (cost * sigmoid(t) - before) + margin` is 0, by Newton's steps from `t` within what is left of the interval.
fn root(square: f64, cost: f64, before: f64, margin: f64, mut t: f64) -> f64 {
    let (mut low, mut high) = (-margin - square * (cost - before), -margin + square * before);
    t = t.clamp(low, high);
    for _ in 0..30 {
        let share = sigmoid(t);
        let off = t + square * (cost * share - before) + margin;
        if off.abs() < 1e-6 {
            break;
        }
        if off > 0.0 {
            high = t
        } else {
            low = t
        }
        let next = t - off / (1.0 + square * cost * share * (1.0 - share));
        t = if next > low && next < high { next } else { low.midpoint(high) };
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six rows of three n-grams.
    fn rows() -> Rows {
        let rows: [&[(u32, f32)]; 6] =
            [&[(0, 0.6), (1, 0.8)], &[(0, 0.8), (2, 0.6)], &[(1, 0.6), (2, 0.8)], &[(0, 1.0)], &[(1, 1.0)], &[(0, 0.28), (1, 0.96)]];
        let mut own = Rows { starts: vec![0], items: Vec::new() };
        for row in rows {
            own.items.extend_from_slice(row);
            own.starts.push(own.items.len());
        }
        own
    }

    /// scikit-learn: `LogisticRegression(C=10 * 6 / (Z ** 2).sum(), solver="liblinear", tol=1e-12).fit(Z, y)` with `Z = X * ratios`; its weights
    /// times the ratios, and its intercept.
    #[test]
    fn the_weights_are_those_of_scikit_learn() {
        let of = [true, false, true, false, false, true];
        let (weights, bias) = solve(&rows(), &[1.0, 2.0, -0.5], |row| of[row], |_| 1.0, 0, &AtomicBool::new(false)).unwrap();
        for (own, reference) in weights.iter().chain([&bias]).zip([-0.52214, 1.72145, 0.15321, -0.67077]) {
            assert!((own - reference).abs() < 0.02, "{weights:?} {bias}");
        }
    }

    #[test]
    fn an_n_gram_counts_by_how_much_more_often_a_class_has_it() {
        // with: 2 of 0 and 1 of 1, of 3 rows; without: 2 of 0, 3 of 1, 2 of 2; each once more
        let ratios = rows().ratios(3, |row| row == 0 || row == 3);
        let expected = [(3.0 / 6.0) / (3.0 / 10.0), (2.0 / 6.0) / (4.0 / 10.0), (1.0 / 6.0) / (3.0 / 10.0)].map(f32::ln);
        assert!(ratios.iter().zip(expected).all(|(own, expected)| (own - expected).abs() < 1e-6), "{ratios:?} {expected:?}");
    }

    #[test]
    fn n_grams_that_tell_nothing_have_no_weight() {
        let (weights, bias) = solve(&rows(), &[0.0; 3], |row| row % 2 == 0, |_| 1.0, 0, &AtomicBool::new(false)).unwrap();
        assert_eq!(weights, [0.0; 3]);
        assert!(bias.abs() < 1.0, "{bias}");
    }

    #[test]
    fn it_ends_when_it_is_told_to() {
        let stopped = solve(&rows(), &[1.0; 3], |row| row < 3, |_| 1.0, 0, &AtomicBool::new(true));
        assert!(matches!(stopped, Err(Error::Canceled)));
    }
}
