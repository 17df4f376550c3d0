//! Confidence intervals.

use super::statistic::Value;

/// A lower and an upper limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower limit.
    pub low: f64,
    /// The upper limit.
    pub high: f64,
}

impl Interval {
    /// The interval without what lies outside these limits.
    #[must_use]
    pub fn within(self, least: f64, most: f64) -> Self {
        Self { low: self.low.max(least), high: self.high.min(most) }
    }

    /// Appends a value and its limits to a result; what is not known is NULL.
    pub fn push(value: Option<f64>, interval: Option<Self>, result: &mut Vec<Value>) {
        result.extend([value.into(), interval.map(|interval| interval.low).into(), interval.map(|interval| interval.high).into()]);
    }
}

/// The quantile of the standard normal distribution at a probability between 0 and 1 (algorithm AS 241, Wichura 1988; 16 digits).
pub fn normal_quantile(probability: f64) -> f64 {
    const NEAR: [f64; 8] = [
        3.387_132_872_796_366_5,
        133.141_667_891_784_38,
        1_971.590_950_306_551_3,
        13_731.693_765_509_46,
        45_921.953_931_549_87,
        67_265.770_927_008_7,
        33_430.575_583_588_13,
        2_509.080_928_730_122_7,
    ];
    const NEAR_BELOW: [f64; 8] = [
        1.0,
        42.313_330_701_600_91,
        687.187_007_492_057_9,
        5_394.196_021_424_751,
        21_213.794_301_586_597,
        39_307.895_800_092_71,
        28_729.085_735_721_943,
        5_226.495_278_852_545,
    ];
    const TAIL: [f64; 8] = [
        1.423_437_110_749_683_5,
        4.630_337_846_156_546,
        5.769_497_221_460_691,
        3.647_848_324_763_204_5,
        1.270_458_252_452_368_4,
        0.241_780_725_177_450_6,
        0.022_723_844_989_269_184,
        7.745_450_142_783_414e-4,
    ];
    const TAIL_BELOW: [f64; 8] = [
        1.0,
        2.053_191_626_637_759,
        1.676_384_830_183_803_8,
        0.689_767_334_985_1,
        0.148_103_976_427_480_08,
        0.015_198_666_563_616_457,
        5.475_938_084_995_345e-4,
        1.050_750_071_644_416_9e-9,
    ];
    const FAR: [f64; 8] = [
        6.657_904_643_501_104,
        5.463_784_911_164_114,
        1.784_826_539_917_291_3,
        0.296_560_571_828_504_87,
        0.026_532_189_526_576_124,
        0.001_242_660_947_388_078_4,
        2.711_555_568_743_487_6e-5,
        2.010_334_399_292_288_1e-7,
    ];
    const FAR_BELOW: [f64; 8] = [
        1.0,
        0.599_832_206_555_888,
        0.136_929_880_922_735_8,
        0.014_875_361_290_850_615,
        7.868_691_311_456_133e-4,
        1.846_318_317_510_054_8e-5,
        1.421_511_758_316_446e-7,
        2.044_263_103_389_939_8e-15,
    ];
    let polynomial = |coefficients: &[f64; 8], x: f64| coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient);
    let centred = probability - 0.5;
    if centred.abs() <= 0.425 {
        let x = 0.180_625 - centred * centred;
        return centred * polynomial(&NEAR, x) / polynomial(&NEAR_BELOW, x);
    }
    let x = (-probability.min(1.0 - probability).ln()).sqrt();
    let quantile = if x <= 5.0 {
        polynomial(&TAIL, x - 1.6) / polynomial(&TAIL_BELOW, x - 1.6)
    } else {
        polynomial(&FAR, x - 5.0) / polynomial(&FAR_BELOW, x - 5.0)
    };
    quantile.copysign(centred)
}

/// How many standard errors an interval of this coverage reaches to each side.
pub fn reach(level: f64) -> f64 {
    normal_quantile(0.5 + level / 2.0)
}

/// The interval of an estimate that is about normally distributed.
pub fn normal(estimate: f64, variance: f64, level: f64) -> Interval {
    let reach = reach(level) * variance.sqrt();
    Interval { low: estimate - reach, high: estimate + reach }
}

/// The score interval of a share of independent trials (Wilson 1927), which is good for few trials and rare hits too.
pub fn wilson(hits: f64, trials: f64, level: f64) -> Interval {
    let (share, z) = (hits / trials, reach(level));
    let z_squared = z * z;
    let centre = (share + z_squared / (2.0 * trials)) / (1.0 + z_squared / trials);
    let reach = z / (1.0 + z_squared / trials) * (share * (1.0 - share) / trials + z_squared / (4.0 * trials * trials)).sqrt();
    Interval { low: centre - reach, high: centre + reach }.within(0.0, 1.0)
}

/// The interval of a share on the scale of log odds: it stays between 0 and 1, for shares that are no mean of trials.
pub fn logit(share: f64, trials: f64, level: f64) -> Interval {
    if share <= 0.0 || share >= 1.0 {
        return Interval { low: share, high: share };
    }
    let centre = (share / (1.0 - share)).ln();
    let reach = reach(level) / (trials * share * (1.0 - share)).sqrt();
    let back = |odds: f64| 1.0 / (1.0 + (-odds).exp());
    Interval { low: back(centre - reach), high: back(centre + reach) }
}

/// The interval between two percentiles of resampled estimates, interpolated.
pub fn percentiles(estimates: &mut [f64], level: f64) -> Option<Interval> {
    estimates.sort_unstable_by(f64::total_cmp);
    Some(Interval { low: percentile(estimates, 0.5 - level / 2.0)?, high: percentile(estimates, 0.5 + level / 2.0)? })
}

/// The value below which a share of sorted values lies, interpolated between neighbours.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * (sorted.len().checked_sub(1)? as f64);
    let (low, part) = (place.floor() as usize, place.fract());
    let (below, above) = (*sorted.get(low)?, *sorted.get(low + 1).or(sorted.last())?);
    Some(below + (above - below) * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-14 * b.abs().max(1.0)
    }

    #[test]
    fn quantiles_of_the_normal_distribution() {
        // By scipy.stats.norm.ppf.
        for (probability, quantile) in [
            (0.5, 0.0),
            (0.975, 1.959_963_984_540_054),
            (0.995, 2.575_829_303_548_900_4),
            (0.9, 1.281_551_565_544_600_4),
            (1e-12, -7.034_483_825_301_132),
            (0.02, -2.053_748_910_631_823),
        ] {
            assert!(close(normal_quantile(probability), quantile), "{probability}: {}", normal_quantile(probability));
        }
    }

    #[test]
    fn the_score_interval_of_a_share() {
        // By statsmodels' proportion_confint(method="wilson").
        let interval = wilson(8.0, 10.0, 0.95);
        assert!(close(interval.low, 0.490_162_471_536_642_94) && close(interval.high, 0.943_317_848_545_625_4), "{interval:?}");
        let none = wilson(0.0, 5.0, 0.95);
        assert!(none.low == 0.0 && none.high > 0.4 && none.high < 0.5);
    }

    #[test]
    fn limits_between_neighbours_are_interpolated() {
        let found = percentiles(&mut [3.0, 1.0, 2.0, 4.0, 5.0], 0.5).unwrap();
        assert_eq!((found.low, found.high), (2.0, 4.0));
        assert_eq!(percentiles(&mut [], 0.95), None);
    }
}
