//! The page: HTML with its style and its pictures inside, and nothing to load or to run.

use std::fmt::Write;

use super::chart::{Axis, Bar, Chart, bars, escape};
use super::facts::{Epoch, Facts, Figure};
use super::number::{count, percent, short};
use super::{experiment, policy};

/// The style, with the colours of light and dark.
const STYLE: &str = include_str!("page.css");

/// Columns that are shown with their importance.
const MOST_COLUMNS: usize = 20;

/// Nets whose training is drawn.
const MOST_NETS: usize = 12;

/// Places of a line that say their values when one points at them.
const HINTS: usize = 40;

/// The page as HTML.
pub(super) fn page(title: Option<&str>, facts: &Facts) -> String {
    let name = escape(title.unwrap_or(&facts.model.name));
    let mut body = header(&name, facts);
    body.push_str(&tiles(facts));
    let (title, charts) = match facts.model.treatment {
        Some(_) => ("Whom the treatment moves", [experiment::qini(facts), experiment::tenths(facts)].concat()),
        None => (
            "How well it ranks, and how right its probabilities are",
            [roc(facts), precision_recall(facts), calibration(facts), gains(facts)].concat(),
        ),
    };
    body.push_str(&section(title, "", &format!(r#"<div class="charts">{charts}</div>"#)));
    if let Some((lead, table)) = policy::table(facts) {
        body.push_str(&section("What another policy would have earned", &lead, &table));
    }
    let inside = [importance(facts), training(facts)].concat();
    if !inside.is_empty() {
        body.push_str(&section("Inside the model", "", &format!(r#"<div class="charts">{inside}</div>"#)));
    }
    body.push_str(&section("About this report", "", &about(facts)));
    let made = escape(&facts.made_at);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{name}: model report</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\
         <footer>Made by Stratagem {} on {made}. Intervals are of 95%.</footer>\n</main>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn section(title: &str, lead: &str, content: &str) -> String {
    let lead = if lead.is_empty() { String::new() } else { format!("<p>{lead}</p>\n") };
    format!("<section>\n<h2>{title}</h2>\n{lead}{content}\n</section>\n")
}

fn header(name: &str, facts: &Facts) -> String {
    let model = &facts.model;
    let version = if model.version == 0 { String::new() } else { format!(" <span>version {}</span>", model.version) };
    let mut line = Vec::new();
    if let (Some(rows), Some(positives)) = (facts.value("rows"), facts.value("positives")) {
        let of = escape(&facts.label);
        line.push(format!("{} rows, {} with {of} ({})", count(rows), count(positives), percent(positives / rows)));
    }
    if let (Some(rows), Some(treated)) = (facts.value("rows"), facts.value("treated")) {
        line.push(format!("{} rows, {} of them treated ({})", count(rows), count(treated), percent(treated / rows)));
    }
    line.push(escape(&facts.made_at));
    format!("<header>\n<p>Model report</p>\n<h1>{name}{version}</h1>\n<p>{}</p>\n</header>\n", line.join(" · "))
}

/// A metric's name and what to hold it against.
fn explained(figure: &Figure, facts: &Facts) -> Option<(String, String)> {
    let rate = facts.base_rate().filter(|rate| (0.0..1.0).contains(rate) && *rate > 0.0);
    let against = |of: fn(f64) -> f64| match rate {
        Some(rate) => format!("Lower is better; {} with the mean rate for every row.", short(of(rate))),
        None => "Lower is better.".to_owned(),
    };
    let (name, note) = match figure.metric.as_str() {
        "auc" => ("AUC", "How often a positive row ranks above a negative one; 0.5 is chance.".to_owned()),
        "pr_auc" => {
            let chance = rate.map(|rate| format!("; chance is {}", short(rate))).unwrap_or_default();
            ("PR AUC", format!("Mean precision over all recalls{chance}."))
        }
        "logloss" => ("Log loss", against(|rate| -(rate * rate.ln() + (1.0 - rate) * (1.0 - rate).ln()))),
        "brier" => ("Brier score", against(|rate| rate * (1.0 - rate))),
        "ece" => ("Calibration error", "Mean distance of predicted and observed rates; 0 is best.".to_owned()),
        "copc" => ("Observed / predicted", "1 is right; above 1 the model predicts too little.".to_owned()),
        "ks" => ("KS", "Largest distance of the scores of positive and negative rows.".to_owned()),
        "gauc" => {
            let group = facts.group.as_deref().map(|group| format!(" of {}", escape(group))).unwrap_or_default();
            ("Grouped AUC", format!("AUC within each group{group}; 0.5 is chance."))
        }
        "qini" => ("Qini", "Area between the Qini curve and that of a random order; 0 is chance.".to_owned()),
        "auuc" => ("AUUC", "Area under the uplift curve.".to_owned()),
        "ate" => ("Average effect", "Mean outcome of treated rows less that of the others.".to_owned()),
        "uplift_at_k" => ("Effect, best 30%", "The same, of the rows with the highest predicted uplift.".to_owned()),
        "predicted_uplift" => ("Predicted effect", "Mean of what the model predicts; it should be near the average effect.".to_owned()),
        "rows" | "positives" | "treated" => return None,
        other => return Some((escape(other), String::new())),
    };
    Some((name.to_owned(), note))
}

fn tiles(facts: &Facts) -> String {
    let mut tiles = String::new();
    for figure in &facts.figures {
        let Some((name, note)) = explained(figure, facts) else { continue };
        let value = figure.value.map_or("–".to_owned(), short);
        let between =
            figure.interval.map(|(low, high)| format!(r#"<p class="between">{} to {}</p>"#, short(low), short(high))).unwrap_or_default();
        // Writing to a text cannot fail.
        let _ =
            write!(tiles, r#"<div class="tile"><h3>{name}</h3><div class="value">{value}</div>{between}<p class="note">{note}</p></div>"#);
    }
    format!("<div class=\"tiles\">{tiles}</div>\n")
}

pub(super) fn figure(title: &str, caption: &str, picture: &str) -> String {
    format!("<figure><h3>{title}</h3><figcaption>{caption}</figcaption>{picture}</figure>\n")
}

/// Some of the points of a curve, evenly chosen.
pub(super) fn some<T>(points: &[T]) -> impl Iterator<Item = &T> {
    points.iter().step_by(points.len().div_ceil(HINTS).max(1))
}

fn roc(facts: &Facts) -> String {
    let mut chart = Chart::new(Axis::share("Negative rows called positive", 1.0), Axis::share("Positive rows found", 1.0));
    chart.line("chance", [(0.0, 0.0), (1.0, 1.0)]);
    let line: Vec<(f64, f64)> = facts.roc.iter().map(|[_, negatives, positives]| (*negatives, *positives)).collect();
    chart.area("wash", &line);
    chart.line("main", line);
    for [threshold, negatives, positives] in some(&facts.roc) {
        let title = format!(
            "from a score of {}: {} of the positives, {} of the negatives",
            short(*threshold),
            percent(*positives),
            percent(*negatives)
        );
        chart.hint("", *negatives, *positives, &title);
    }
    chart.word("", 0.72, 0.62, "start", "chance");
    let area = facts.value("auc").map_or(String::new(), |auc| format!(" The area below is the AUC, {}.", short(auc)));
    let caption = format!("Lower the score from which a row is called positive: what is found, and what is called so wrongly.{area}");
    figure("ROC curve", &caption, &chart.finish("ROC curve: share of positive rows found against share of negative rows called positive"))
}

fn precision_recall(facts: &Facts) -> String {
    let base = facts.base_rate().unwrap_or(0.0);
    // The first rows of a ranking say little, and precision would fill the picture with their noise.
    let settled = facts.precision_recall.iter().filter(|[_, _, recall]| *recall >= 0.05).map(|[_, precision, _]| *precision);
    let most = (settled.fold(base * 2.0, f64::max) * 1.15).max(1e-6);
    let top = if most > 0.5 { 1.0 } else { most };
    let mut chart = Chart::new(Axis::share("Positive rows found (recall)", 1.0), Axis::share("Right among those called positive", top));
    chart.line("chance", [(0.0, base), (1.0, base)]);
    let drawn = facts.precision_recall.iter().filter(|[_, precision, recall]| *precision <= top && *recall > 0.0);
    chart.line("main", drawn.map(|[_, precision, recall]| (*recall, *precision)));
    for [threshold, precision, recall] in some(&facts.precision_recall).filter(|[_, precision, _]| *precision <= top) {
        let title = format!("from a score of {}: {} right, {} found", short(*threshold), percent(*precision), percent(*recall));
        chart.hint("", *recall, *precision, &title);
    }
    // Below its line, for the curve ends on it from above; above it where there is no room.
    let beside = if base > top * 0.08 { base - top * 0.065 } else { base + top * 0.025 };
    chart.word("", 1.0, beside, "end", &format!("chance: {}", percent(base)));
    let cut = if top < 1.0 { format!(" The axis ends at {}.", percent(top)) } else { String::new() };
    let caption = format!("The more positive rows are to be found, the more of the others come along.{cut}");
    figure("Precision and recall", &caption, &chart.finish("Precision against recall"))
}

fn calibration(facts: &Facts) -> String {
    let most = facts.calibration.iter().map(|[_, predicted, _, _, high]| predicted.max(*high)).fold(0.0, f64::max);
    let top = if most > 0.5 { 1.0 } else { (most * 1.05).max(1e-6) };
    let mut chart = Chart::new(Axis::share("Predicted rate", top), Axis::share("Observed rate", top));
    chart.line("chance", [(0.0, 0.0), (top, top)]);
    chart.line("main thin", facts.calibration.iter().map(|[_, predicted, observed, _, _]| (*predicted, *observed)));
    for [_, predicted, _, low, high] in &facts.calibration {
        chart.whisker("interval", *predicted, *low, *high);
    }
    for [rows, predicted, observed, low, high] in &facts.calibration {
        let (predicted_text, observed_text) = (percent(*predicted), percent(*observed));
        let title = format!(
            "{} rows: predicted {predicted_text}, observed {observed_text} ({} to {})",
            count(*rows),
            percent(*low),
            percent(*high)
        );
        chart.point("dot", *predicted, *observed, &title);
    }
    chart.word("", top * 0.97, top * 0.9, "end", "right");
    let caption = "Tenths of the rows by predicted rate. A bar that misses the dashed line is off by more than chance.";
    figure("Calibration", caption, &chart.finish("Observed against predicted rates, by tenths of the rows"))
}

fn gains(facts: &Facts) -> String {
    let mut chart = Chart::new(Axis::share("Rows with the highest scores", 1.0), Axis::share("Positive rows among them", 1.0));
    chart.line("chance", [(0.0, 0.0), (1.0, 1.0)]);
    let line: Vec<(f64, f64)> =
        [(0.0, 0.0)].into_iter().chain(facts.gains.iter().map(|[rows, _, positives, _]| (*rows, *positives))).collect();
    chart.area("wash", &line);
    chart.line("main", line);
    for [rows, threshold, positives, lift] in some(&facts.gains) {
        let title = format!(
            "the first {}, down to a score of {}: {} of the positives, {} times chance",
            percent(*rows),
            short(*threshold),
            percent(*positives),
            short(*lift)
        );
        chart.hint("", *rows, *positives, &title);
    }
    let tenth = facts.gains.iter().find(|[rows, ..]| *rows >= 0.1 - 1e-9 && rows.is_finite());
    let caption = match tenth.filter(|[_, _, positives, _]| positives.is_finite()) {
        Some([rows, _, positives, lift]) => {
            chart.point("dot", *rows, *positives, &format!("{} of the rows hold {} of the positives", percent(*rows), percent(*positives)));
            format!("The best tenth of the rows holds {} of the positive ones: a lift of {}.", percent(*positives), short(*lift))
        }
        None => "What the rows with the highest scores hold.".to_owned(),
    };
    chart.word("", 0.72, 0.62, "start", "chance");
    figure("Cumulative gains", &caption, &chart.finish("Share of positive rows against share of rows with the highest scores"))
}

fn importance(facts: &Facts) -> String {
    if facts.importance.is_empty() {
        return String::new();
    }
    let bar = |(name, value, error): &(String, f64, f64)| {
        let half = error.is_finite().then_some(1.959_963_984_540_054 * error);
        let title = match half {
            Some(half) => format!("{name}: the AUC falls by {} ({} to {})", short(*value), short(value - half), short(value + half)),
            None => format!("{name}: the AUC falls by {}", short(*value)),
        };
        Bar { name: name.clone(), value: *value, interval: half.map(|half| (value - half, value + half)), title }
    };
    let shown: Vec<Bar> = facts.importance.iter().take(MOST_COLUMNS).map(bar).collect();
    let left = facts.importance.len() - shown.len();
    let more = if left == 0 { String::new() } else { format!(" {left} less important columns are not shown.") };
    let caption = format!(
        "By how much the AUC falls when a column is shuffled, on {} rows. About 0: the model does without it.{more}",
        count(f64::from(facts.sample).min(facts.value("rows").unwrap_or(f64::INFINITY)))
    );
    figure("Importance of the columns", &caption, &bars(&shown, "Fall of the AUC when a column is shuffled, by column"))
}

fn training(facts: &Facts) -> String {
    let nets: Vec<_> = facts.training.iter().filter(|net| !net.epochs.is_empty()).take(MOST_NETS).collect();
    let epochs = || nets.iter().flat_map(|net| &net.epochs);
    let losses = || epochs().flat_map(|(_, train, held_out)| [*train, *held_out]).flatten().filter(|loss| loss.is_finite());
    let (least, most) = (losses().fold(f64::INFINITY, f64::min), losses().fold(f64::NEG_INFINITY, f64::max));
    if !least.is_finite() || !most.is_finite() {
        return String::new();
    }
    let room = ((most - least) * 0.08).max(most.abs() * 0.01).max(1e-6);
    let last = epochs().map(|(epoch, ..)| *epoch).fold(1.0, f64::max);
    let loss = if facts.model.treatment.is_some() { "Loss of the nets that learn the outcome" } else { "Log loss" };
    let mut chart = Chart::new(Axis::whole("Epoch", last), Axis::numbers(loss, least - room, most + room));
    for net in &nets {
        let thin = if nets.len() > 1 { " thin" } else { "" };
        let line =
            |of: fn(&Epoch) -> Option<f64>| net.epochs.iter().filter_map(move |epoch| Some((epoch.0, of(epoch)?))).collect::<Vec<_>>();
        for (class, what, points) in [("main", "training rows", line(|epoch| epoch.1)), ("second", "held-out rows", line(|epoch| epoch.2))]
        {
            chart.line(&format!("{class}{thin}"), points.clone());
            for (epoch, loss) in points {
                chart.hint(class, epoch, loss, &format!("{}, epoch {epoch}: {} on the {what}", net.name, short(loss)));
            }
        }
    }
    let many = if nets.len() > 1 { format!(", one line for each of {} nets", nets.len()) } else { String::new() };
    let caption = format!(
        r#"<span class="key main"></span>rows it was trained on<span class="key second"></span>rows held out{many}. The epoch with the lowest loss on the held-out rows was kept."#
    );
    figure("Training", &caption, &chart.finish("Loss on the training and on the held-out rows, by epoch"))
}

fn about(facts: &Facts) -> String {
    let model = &facts.model;
    let mut lines = vec![("Rows", format!("<pre>{}</pre>", escape(&facts.query))), ("Label", escape(&facts.label))];
    if model.version > 0 {
        lines.push(("Model", escape(&format!("{}, version {}", model.name, model.version))));
        if !model.aliases.is_empty() {
            lines.push(("Aliases", escape(&model.aliases)));
        }
        lines.push(("Architecture", escape(&model.model_type)));
        if let Some(treatment) = &model.treatment {
            lines.push(("Treatment", escape(treatment)));
        }
        lines.push(("Saved", escape(model.created_at.split(['.', '+']).next().unwrap_or_default())));
        lines.push(("Columns it reads", escape(&model.features)));
    }
    if let Some(rows) = model.rows {
        let positives = model.positives.map(|positives| format!(", {} of them positive", count(positives))).unwrap_or_default();
        lines.push(("Trained on", format!("{} rows{positives}<pre>{}</pre>", count(rows), escape(&model.source_query))));
    }
    let rows: String = lines.iter().map(|(name, value)| format!("<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>\n")).collect();
    format!("<table class=\"facts\">\n{rows}</table>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_without_figures_is_a_page_and_what_users_wrote_is_escaped() {
        let facts = Facts { query: "SELECT '<b>' FROM \"t\"".to_owned(), label: "a & b".to_owned(), ..Facts::default() };
        let page = page(Some("<script>"), &facts);
        assert!(page.contains("&lt;script&gt;") && page.contains("SELECT '&lt;b&gt;' FROM &quot;t&quot;") && page.contains("a &amp; b"));
        assert!(!page.contains("<script") && !page.contains("http") && !page.contains("NaN") && !page.contains("inf"), "{page}");
    }
}
