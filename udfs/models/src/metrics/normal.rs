//! How probable a number of the normal distribution is.

/// The probability that a standard normal number is at least this far from 0, on either side.
pub fn two_sided(z: f64) -> f64 {
    libm::erfc(z.abs() / std::f64::consts::SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_leaves_its_share_outside() {
        assert!((two_sided(1.959_963_984_540_054) - 0.05).abs() < 1e-15);
        assert_eq!(two_sided(0.0), 1.0);
        // scipy.stats.norm.sf(6) * 2
        assert!((two_sided(-6.0) / 1.973_175_290_075_396e-9 - 1.0).abs() < 1e-12);
    }
}
