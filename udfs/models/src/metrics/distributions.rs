//! Tails and quantiles of the distributions that tests and intervals need.

use std::f64::consts::{PI, SQRT_2};

use statrs::function::beta::{beta_reg, inv_beta_reg};
use statrs::function::gamma::gamma_ur;

use super::interval::reach;

/// From here on a t distribution is reached through the normal one: the logarithms of gamma functions lose digits, and the expansion has
/// them all.
const MANY: f64 = 1e4;

/// The probability that a standard normal variable is above `z`.
fn normal_tail(z: f64) -> f64 {
    libm::erfc(z / SQRT_2) / 2.0
}

/// The probability that a standard normal variable is further than `z` from 0, on either side.
pub(super) fn normal_tails(z: f64) -> f64 {
    2.0 * normal_tail(z.abs())
}

/// The probability that a t variable is further than `t` from 0, on either side. NaN for a NaN.
pub(super) fn t_tails(t: f64, freedom: f64) -> f64 {
    if freedom < MANY { tails_by_beta(t, freedom) } else { normal_tails(normal_of_t(t, freedom)) }
}

fn tails_by_beta(t: f64, freedom: f64) -> f64 {
    if t.is_nan() || freedom.is_nan() {
        return f64::NAN;
    }
    beta_reg(freedom / 2.0, 0.5, freedom / t.mul_add(t, freedom))
}

/// The distance from 0 within which a t variable is with probability `level`, for 0 < level < 1.
pub(super) fn t_reach(level: f64, freedom: f64) -> f64 {
    if freedom >= MANY {
        return t_of_normal(reach(level), freedom);
    }
    // The inverse is good to a few digits less than the function, so one step of Newton's method mends it.
    let share = inv_beta_reg(freedom / 2.0, 0.5, 1.0 - level);
    let t = (freedom * (1.0 - share) / share).sqrt();
    let step = 1e-4 * t;
    let slope = (tails_by_beta(t + step, freedom) - tails_by_beta(t - step, freedom)) / (2.0 * step);
    let mended = t - (tails_by_beta(t, freedom) - (1.0 - level)) / slope;
    if mended.is_finite() { mended } else { t }
}

/// The normal variable with the tail of a t variable (Hill 1970, algorithm 395).
fn normal_of_t(t: f64, freedom: f64) -> f64 {
    let a = freedom - 0.5;
    let w = (a * (t * t / freedom).ln_1p()).sqrt();
    w + (w.powi(3) + 3.0 * w) / (48.0 * a * a)
}

/// The inverse of [`normal_of_t`].
fn t_of_normal(z: f64, freedom: f64) -> f64 {
    let a = freedom - 0.5;
    let w = z - (z.powi(3) + 3.0 * z) / (48.0 * a * a);
    (freedom * (w * w / a).exp_m1()).sqrt()
}

/// The probability that a chi-square variable is above `x`.
pub(super) fn chi_square_tail(x: f64, freedom: f64) -> f64 {
    if x > 0.0 { gamma_ur(freedom / 2.0, x / 2.0) } else { 1.0 }
}

/// The probability that the largest distance of a Brownian bridge from 0 is above `x` (Kolmogorov 1933).
pub(super) fn kolmogorov_tail(x: f64) -> f64 {
    // Each of the two series of the same function needs few terms on its side.
    if x < 0.2 {
        return 1.0;
    }
    if x < 1.2 {
        let below: f64 = (1..=10).map(|term| (-(f64::from(2 * term - 1) * PI / x).powi(2) / 8.0).exp()).sum();
        return 1.0 - (2.0 * PI).sqrt() / x * below;
    }
    2.0 * (1..=10).map(|term| f64::from(2 * (term % 2) - 1) * (-2.0 * (f64::from(term) * x).powi(2)).exp()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(ours: f64, theirs: f64) {
        assert!((ours / theirs - 1.0).abs() < 1e-10, "{ours} {theirs}");
    }

    /// Expected values by scipy 1.17.1.
    #[test]
    fn distributions_equal_scipy() {
        close(normal_tail(-3.0), 0.9986501019683699);
        close(normal_tail(0.1), 0.460172162722971);
        close(normal_tail(1.96), 0.024997895148220435);
        close(normal_tail(5.0), 2.866515718791933e-07);
        close(normal_tail(12.0), 1.776482112077653e-33);
        close(t_tails(0.3, 1.0), 0.8144528418445154);
        close(t_tails(2.5, 3.7), 0.07182202291182678);
        close(t_tails(1.96, 30.0), 0.05934231289605049);
        close(t_tails(4.5, 9000.0), 6.880666555591213e-06);
        close(t_tails(2.2, 12000.0), 0.027825887440567118);
        close(t_tails(0.01, 500000.0), 0.992021291360358);
        close(t_tails(6.0, 100000000.0), 1.973182034315279e-09);
        close(t_reach(0.95, 1.0), 12.706204736174694);
        close(t_reach(0.95, 4.4), 2.679679485692335);
        close(t_reach(0.8, 57.3), 1.2965014257009264);
        close(t_reach(0.99, 9999.0), 2.5763210958565974);
        close(t_reach(0.95, 10001.0), 1.960201216164641);
        close(t_reach(0.95, 100000000.0), 1.9599640082627663);
        close(chi_square_tail(0.02, 1.0), 0.887537083981715);
        close(chi_square_tail(3.84, 1.0), 0.05004352124870519);
        close(chi_square_tail(12.0, 3.0), 0.007383160505359769);
        close(chi_square_tail(150.0, 100.0), 0.0009039320423540184);
        close(chi_square_tail(200.0, 2.0), 3.7200759760208177e-44);
        close(kolmogorov_tail(0.21), 0.9999999999915384);
        close(kolmogorov_tail(0.6), 0.8642827790506042);
        close(kolmogorov_tail(1.19), 0.11774229287977166);
        close(kolmogorov_tail(1.21), 0.10697010207551334);
        close(kolmogorov_tail(2.5), 7.453306344157342e-06);
    }

    #[test]
    fn a_normal_quantile_leaves_its_share_outside() {
        assert!((normal_tails(1.959_963_984_540_054) - 0.05).abs() < 1e-15);
        assert_eq!(normal_tails(0.0), 1.0);
        // scipy.stats.norm.sf(6) * 2
        assert!((normal_tails(-6.0) / 1.973_175_290_075_396e-9 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn quantiles_undo_tails() {
        for level in [0.1, 0.5, 0.8, 0.9, 0.95, 0.99, 0.9999] {
            close(2.0 * normal_tail(reach(level)), 1.0 - level);
            for freedom in [1.0, 2.0, 3.7, 30.0, 9_999.0, 10_001.0, 1e9] {
                close(t_tails(t_reach(level, freedom), freedom), 1.0 - level);
            }
        }
    }
}
