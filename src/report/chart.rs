//! Charts as SVG: axes with round ticks, lines, points and bars; colours come from the page's style, texts to point at are `<title>`.

use std::fmt::Write;

use super::number;

/// The size of a chart in its own units; the page scales it.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 46.0;

/// The height of a row of a bar chart.
const ROW: f64 = 28.0;

/// `text` as HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// An axis.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    label: String,
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to a share, in percent.
    pub(super) fn share(label: &str, to: f64) -> Self {
        Self::new(label, 0.0, to, number::step(to), number::percent_tick)
    }

    /// Between two numbers.
    pub(super) fn numbers(label: &str, from: f64, to: f64) -> Self {
        Self::new(label, from, to, number::step(to - from), number::tick)
    }

    /// Whole numbers from 1.
    pub(super) fn whole(label: &str, to: f64) -> Self {
        Self::new(label, 1.0, to.max(2.0), number::step(to).ceil().max(1.0), number::tick)
    }

    fn new(label: &str, from: f64, to: f64, step: f64, text: impl Fn(f64, f64) -> String) -> Self {
        let first = (from / step - 1e-9).ceil() as i64;
        let last = (to / step + 1e-9).floor() as i64;
        let ticks = (first..=last).map(|tick| tick as f64 * step).map(|at| (at, text(at, step))).collect();
        Self { label: label.to_owned(), from, to, ticks }
    }

    /// The place of a value, from 0 to 1; beyond the axis at its end.
    fn place(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

/// A chart with two axes.
#[derive(Debug)]
pub(super) struct Chart {
    x: Axis,
    y: Axis,
    body: String,
}

impl Chart {
    pub(super) fn new(x: Axis, y: Axis) -> Self {
        let mut chart = Self { x, y, body: String::new() };
        chart.axes();
        chart
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (LEFT + self.x.place(x) * (WIDTH - LEFT - RIGHT), TOP + (1.0 - self.y.place(y)) * (HEIGHT - TOP - BOTTOM))
    }

    fn axes(&mut self) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, text) in self.y.ticks.clone() {
            let (_, y) = self.at(self.x.from, value);
            let text = escape(&text);
            self.put(format_args!(
                r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1}" y2="{y:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{text}</text>"#,
                LEFT - 8.0,
                y + 4.0
            ));
        }
        for (value, text) in self.x.ticks.clone() {
            let (x, _) = self.at(value, self.y.from);
            let text = escape(&text);
            self.put(format_args!(
                r#"<line class="mark" x1="{x:.1}" x2="{x:.1}" y1="{bottom}" y2="{:.1}"/><text class="tick" x="{x:.1}" y="{:.1}" text-anchor="middle">{text}</text>"#,
                bottom + 4.0,
                bottom + 18.0
            ));
        }
        let (middle, x_label, y_label) = ((TOP + bottom) / 2.0, escape(&self.x.label), escape(&self.y.label));
        self.put(format_args!(
            r#"<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/><text class="name" x="{:.1}" y="{:.1}" text-anchor="middle">{x_label}</text><text class="name" transform="translate(12 {middle:.1}) rotate(-90)" text-anchor="middle">{y_label}</text>"#,
            (LEFT + right) / 2.0,
            HEIGHT - 6.0
        ));
    }

    fn put(&mut self, part: std::fmt::Arguments<'_>) {
        // Writing to a text cannot fail.
        let _ = self.body.write_fmt(part);
    }

    /// A line through points.
    pub(super) fn line(&mut self, class: &str, points: impl IntoIterator<Item = (f64, f64)>) {
        let places: Vec<String> = points
            .into_iter()
            .filter(|(x, y)| x.is_finite() && y.is_finite())
            .map(|(x, y)| self.at(x, y))
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        self.put(format_args!(r#"<polyline class="{class}" points="{}"/>"#, places.join(" ")));
    }

    /// The area between a line and the horizontal axis.
    pub(super) fn area(&mut self, class: &str, points: &[(f64, f64)]) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let closed = points.iter().copied().chain([(last.0, self.y.from), (first.0, self.y.from)]);
        let places: Vec<String> = closed.map(|(x, y)| self.at(x, y)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.put(format_args!(r#"<polygon class="{class}" points="{}"/>"#, places.join(" ")));
    }

    /// A point with a text to point at.
    pub(super) fn point(&mut self, class: &str, x: f64, y: f64, title: &str) {
        let ((x, y), title) = (self.at(x, y), escape(title));
        self.put(format_args!(
            r#"<g class="{class}"><circle cx="{x:.1}" cy="{y:.1}" r="3.5"/><circle class="hit" cx="{x:.1}" cy="{y:.1}" r="10"><title>{title}</title></circle></g>"#
        ));
    }

    /// A place on a line with a text to point at, drawn only then.
    pub(super) fn hint(&mut self, class: &str, x: f64, y: f64, title: &str) {
        let ((x, y), title) = (self.at(x, y), escape(title));
        self.put(format_args!(r#"<circle class="hint {class}" cx="{x:.1}" cy="{y:.1}" r="6"><title>{title}</title></circle>"#));
    }

    /// An interval that stands upright.
    pub(super) fn whisker(&mut self, class: &str, x: f64, low: f64, high: f64) {
        let ((x, low), (_, high)) = (self.at(x, low), self.at(x, high));
        self.put(format_args!(r#"<line class="{class}" x1="{x:.1}" x2="{x:.1}" y1="{low:.1}" y2="{high:.1}"/>"#));
    }

    /// A word beside a place.
    pub(super) fn word(&mut self, class: &str, x: f64, y: f64, anchor: &str, text: &str) {
        let ((x, y), text) = (self.at(x, y), escape(text));
        self.put(format_args!(r#"<text class="word {class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#));
    }

    /// The picture; the description is for those who do not see it.
    pub(super) fn finish(self, description: &str) -> String {
        picture(HEIGHT, description, &self.body)
    }
}

/// One bar of [`bars`].
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) value: f64,
    /// The ends of its interval.
    pub(super) interval: Option<(f64, f64)>,
    pub(super) title: String,
}

/// Bars that lie, one per row, with their names before and their values behind them.
pub(super) fn bars(bars: &[Bar], description: &str) -> String {
    const NAMES: f64 = 146.0;
    const VALUES: f64 = 64.0;
    const LETTERS: usize = 18;
    let ends = |bar: &Bar| bar.interval.map_or([bar.value; 2], |(low, high)| [low, high]);
    let least = bars.iter().flat_map(ends).fold(0.0, f64::min);
    let most = bars.iter().flat_map(ends).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| NAMES + (value - least) / (most - least) * (WIDTH - NAMES - VALUES);
    let mut body = String::new();
    for (row, bar) in bars.iter().enumerate() {
        let (top, middle) = (row as f64 * ROW, row as f64 * ROW + ROW / 2.0);
        let (from, to) = (x(bar.value.min(0.0)), x(bar.value.max(0.0)));
        let name = match bar.name.char_indices().nth(LETTERS) {
            Some((end, _)) => format!("{}…", &bar.name[..end]),
            None => bar.name.clone(),
        };
        let whisker = bar.interval.map(|(low, high)| {
            format!(r#"<line class="whisker" x1="{:.1}" x2="{:.1}" y1="{middle:.1}" y2="{middle:.1}"/>"#, x(low), x(high))
        });
        let _ = write!(
            body,
            r#"<g class="row"><rect class="hit" x="0" y="{top:.1}" width="{WIDTH}" height="{ROW}"><title>{}</title></rect><text class="name" x="{:.1}" y="{:.1}" text-anchor="end">{}</text><rect class="bar" x="{from:.1}" y="{:.1}" width="{:.1}" height="{:.1}" rx="1.5"/>{}<text class="tick" x="{WIDTH}" y="{:.1}" text-anchor="end">{}</text></g>"#,
            escape(&bar.title),
            NAMES - 10.0,
            middle + 4.0,
            escape(&name),
            top + 6.0,
            (to - from).max(1.0),
            ROW - 12.0,
            whisker.unwrap_or_default(),
            middle + 4.0,
            number::like(bar.value, most),
        );
    }
    let zero = x(0.0);
    let height = bars.len() as f64 * ROW;
    let _ = write!(body, r#"<line class="axis" x1="{zero:.1}" x2="{zero:.1}" y1="0" y2="{height}"/>"#);
    picture(height, description, &body)
}

fn picture(height: f64, description: &str, body: &str) -> String {
    let description = escape(description);
    format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{description}">{body}</svg>"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_ticks_within_their_ends() {
        let texts = |axis: Axis| axis.ticks.into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(Axis::share("", 1.0)), ["0%", "20%", "40%", "60%", "80%", "100%"]);
        assert_eq!(texts(Axis::share("", 0.013)), ["0%", "0.25%", "0.50%", "0.75%", "1.00%", "1.25%"]);
        assert_eq!(texts(Axis::numbers("", 0.35, 0.62)), ["0.35", "0.40", "0.45", "0.50", "0.55", "0.60"]);
        assert_eq!(texts(Axis::whole("", 9.0)), ["2", "4", "6", "8"]);
        assert_eq!(texts(Axis::whole("", 1.0)), ["1", "2"]);
    }

    #[test]
    fn what_is_drawn_stays_inside_and_what_is_written_is_escaped() {
        let mut chart = Chart::new(Axis::share("x < 1", 1.0), Axis::share("y", 0.5));
        chart.line("a", [(0.0, 0.0), (f64::NAN, 0.2), (2.0, 9.0)]);
        let svg = chart.finish("a \"line\"");
        assert!(svg.contains(r#"points="66.0,274.0 424.0,12.0""#), "{svg}");
        assert!(svg.contains("x &lt; 1") && svg.contains("a &quot;line&quot;"));
        let bar = |name: &str, value| Bar { name: name.to_owned(), value, interval: None, title: String::new() };
        let svg = bars(&[bar("a", 1.0), bar("a name that does not end here", -0.5)], "bars");
        assert!(svg.contains("a name that does n…") && !svg.contains("NaN"), "{svg}");
    }
}
