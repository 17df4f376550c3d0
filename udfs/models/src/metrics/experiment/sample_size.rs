//! How many rows an experiment needs.

use crate::metrics::interval::normal_quantile;

/// Rows per variant with which a two-sided z-test of two proportions at significance `alpha` finds a difference `effect` from the rate
/// `baseline` with probability `power` (Fleiss, Levin and Paik 2003, chapter 4, without continuity correction). All are probabilities
/// above 0 and below 1, as is `baseline + effect`; `effect` may be negative.
pub fn sample_size(baseline: f64, effect: f64, power: f64, alpha: f64) -> f64 {
    let other = baseline + effect;
    let pooled = (baseline + other) / 2.0;
    let if_equal = (2.0 * pooled * (1.0 - pooled)).sqrt();
    let if_different = (baseline * (1.0 - baseline) + other * (1.0 - other)).sqrt();
    let reach = -normal_quantile(alpha / 2.0) * if_equal + normal_quantile(power) * if_different;
    (reach / effect).powi(2).ceil()
}

#[cfg(test)]
mod tests {
    use super::sample_size;

    /// By `samplesize_proportions_2indep_onetail` of statsmodels 0.15.0, two-sided.
    #[test]
    fn sizes_equal_statsmodels() {
        assert_eq!(sample_size(0.1, 0.02, 0.8, 0.05), 3841.0);
        assert_eq!(sample_size(0.005, 0.001, 0.9, 0.05), 114_944.0);
        assert_eq!(sample_size(0.5, -0.1, 0.8, 0.01), 577.0);
    }
}
