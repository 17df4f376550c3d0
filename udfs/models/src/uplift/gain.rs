//! How well uplifts order the rows of an experiment, as scikit-uplift measures it.

/// The Qini coefficient (Radcliffe 2007) and the area under the uplift curve (Devriendt et al. 2020), each above random as a share of a perfect
/// order. `None` where there are not both arms, or a perfect order would gain nothing.
pub(super) fn gain(effects: &[f32], outcomes: &[f32], treated: &[f32]) -> (Option<f64>, Option<f64>) {
    let area = |order: &dyn Fn(usize) -> f64, qini: bool| {
        let mut rows: Vec<usize> = (0..effects.len()).collect();
        rows.sort_by(|a, b| order(*b).total_cmp(&order(*a)));
        // Rows and outcomes of each arm, not treated first.
        let (mut counts, mut sums, mut before, mut area) = ([0.0; 2], [0.0; 2], (0.0, 0.0), 0.0);
        for same in rows.chunk_by(|a, b| order(*a) == order(*b)) {
            for row in same {
                let arm = usize::from(treated[*row] > 0.5);
                counts[arm] += 1.0;
                sums[arm] += f64::from(outcomes[*row]);
            }
            let mean = |arm: usize| if counts[arm] > 0.0 { sums[arm] / counts[arm] } else { 0.0 };
            let all = counts[0] + counts[1];
            let height = if qini { sums[1] - mean(0) * counts[1] } else { (mean(1) - mean(0)) * all };
            area += (all - before.0) * (height + before.1) / 2.0;
            before = (all, height);
        }
        (area, before.0 * before.1 / 2.0, counts[0] > 0.0 && counts[1] > 0.0)
    };
    let above = |qini: bool| {
        let (own, random, both) = area(&|row| f64::from(effects[row]), qini);
        let cell = |row: usize| (treated[row] > 0.5, outcomes[row] > 0.5);
        let count = |wanted: (bool, bool)| (0..effects.len()).filter(|row| cell(*row) == wanted).count();
        let late = count((false, true)) > count((true, false));
        let perfect = |row: usize| match (qini, cell(row)) {
            (_, (true, true)) => 3.0,
            (true, (true, false) | (false, false)) => 2.0,
            (true, (false, true)) => 1.0,
            (false, (false, false)) => 2.0,
            (false, (true, false)) => {
                if late {
                    0.0
                } else {
                    1.0
                }
            }
            (false, (false, true)) => {
                if late {
                    1.0
                } else {
                    0.0
                }
            }
        };
        let (best, ..) = area(&perfect, qini);
        (both && best != random).then(|| (own - random) / (best - random))
    };
    (above(true), above(false))
}
