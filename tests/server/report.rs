//! The report page: written by the command, looked at by a browser.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::running::Running;

/// Clicks that depend on the item and on the price.
const ROWS: &str = "SELECT value AS id, value % 13 AS item_id, (value % 50) / 10.0 AS price, value % 97 AS user_id, \
                    (value * 7919) % 100 < CASE WHEN value % 13 < 4 THEN 50 ELSE 4 END AS click FROM generate_series(1, 3000)";

const TEXTS: [&str; 12] = [
    "Model report",
    "<h1>ctr <span>version 1</span></h1>",
    "1,000 rows",
    "AUC",
    "Log loss",
    "ROC curve",
    "Precision and recall",
    "Calibration",
    "Cumulative gains",
    "Importance of the columns",
    "Training",
    "item_id integer, price double precision, user_id integer",
];

/// A server with a trained model, whose folder a later one can take over.
async fn trained() -> Running {
    let server = Running::start();
    let client = server.connect().await;
    let train = format!(
        "CREATE MODEL ctr OPTIONS (label = 'click', epochs = 3, ensembles = 2, early_stop = false) AS SELECT item_id, price, user_id, click FROM ({ROWS}) r WHERE id <= 2000"
    );
    client.simple_query(&train).await.expect("trained");
    server
}

fn report(arguments: &[&str], output: &Path) -> Output {
    let query = format!("SELECT * FROM ({ROWS}) r WHERE id > 2000 -- held out\n;");
    Command::new(env!("CARGO_BIN_EXE_stratagem"))
        .args(["report", "--query", &query, "--sample", "500", "--output"])
        .arg(output)
        .args(arguments)
        .env("STRATAGEM_LOG__LEVEL", "warn")
        .output()
        .expect("the binary starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_a_running_server_and_of_its_folder_show_the_same() {
    let server = trained().await;
    let page = server.data.join("report.html");
    let address = format!("127.0.0.1:{}", server.port);
    let run = report(&["--model", "ctr", "--group", "user_id", "--server", &address], &page);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let first = std::fs::read_to_string(&page).expect("the page");
    for text in TEXTS {
        assert!(first.contains(text), "no {text} in\n{first}");
    }
    assert!(first.contains("Grouped AUC"), "{first}");
    for forbidden in ["<script", "http:", "https:", "url(", "@import", "NaN"] {
        assert!(!first.contains(forbidden), "{forbidden} in\n{first}");
    }
    let kept = server.connect().await.query("SELECT DISTINCT version FROM ml.evaluations WHERE split = 'query'", &[]).await.expect("rows");
    assert_eq!(kept.len(), 1);

    let missing = report(&["--model", "crt", "--server", &address], &page);
    let told = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(!missing.status.success() && told.contains("model \"crt\" does not exist") && told.contains("did you mean \"ctr\"?"), "{told}");

    let folder = server.data.clone();
    server.signal("TERM");
    let mut server = server;
    assert_eq!(server.wait(), Some(0));
    let run = report(&["--model", "ctr@1", "--group", "user_id", "--data", &folder.to_string_lossy()], &page);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let second = std::fs::read_to_string(&page).expect("the page");
    // All but the time of the report is the same.
    let without_time = |page: &str| page.lines().filter(|line| !line.contains("UTC")).collect::<Vec<_>>().join("\n");
    assert_eq!(without_time(&first), without_time(&second));
}

/// A randomised mailing that moves the readers of some items, and the chances of a log that chose them at random.
const MAILING: &str = "SELECT value AS id, value % 13 AS item_id, (value % 50) / 10.0 AS price, (value * 104729) % 1009 < 504 AS mailed, \
                       (value * 7919) % 1000 < 100 + CASE WHEN (value * 104729) % 1009 < 504 AND value % 13 < 6 THEN 400 ELSE 0 END AS visit, \
                       0.5 AS shown, CASE WHEN value % 13 < 6 THEN 0.9 ELSE 0.1 END AS wanted FROM generate_series(1, 4000)";

/// The page of an uplift model, with what another policy would have earned.
async fn uplift_report() -> (Running, PathBuf) {
    let server = Running::start();
    let train = format!(
        "CREATE MODEL who OPTIONS (task = 'uplift', treatment = 'mailed', outcome = 'visit', learner = 't', epochs = 6, ensembles = 1) \
         AS SELECT item_id, price, mailed, visit FROM ({MAILING}) m WHERE id <= 2000"
    );
    server.connect().await.simple_query(&train).await.expect("trained");
    let page = server.data.join("uplift.html");
    let run = Command::new(env!("CARGO_BIN_EXE_stratagem"))
        .args(["report", "--model", "who", "--query", &format!("SELECT * FROM ({MAILING}) m WHERE id > 2000"), "--output"])
        .arg(&page)
        .args(["--reward", "visit", "--target", "wanted", "--logged", "shown", "--server", &format!("127.0.0.1:{}", server.port)])
        .output()
        .expect("the binary starts");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    (server, page)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_an_uplift_model_shows_whom_it_moves_and_a_log_what_a_policy_earns() {
    let (server, page) = uplift_report().await;
    let html = std::fs::read_to_string(&page).expect("the page");
    for text in [
        "2,000 rows",
        "treated",
        "Qini curve",
        "Effect by tenths",
        "Average effect",
        "Effect, best 30%",
        "What another policy would have earned",
        "snips",
        "Training",
        "Treatment",
    ] {
        assert!(html.contains(text), "no {text} in\n{html}");
    }
    assert!(!html.contains("ROC curve") && !html.contains("NaN"), "{html}");
    let found = server
        .connect()
        .await
        .query_one(&format!("SELECT ips(visit, wanted, shown) FROM ({MAILING}) m WHERE id > 2000"), &[])
        .await
        .expect("a row")
        .get::<_, f64>(0);
    assert!(html.contains(&format!("{found:.3}")), "{found} in\n{html}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_the_report_within_its_width_in_light_and_dark() {
    let Some(browser) = browser() else {
        // Where a developer has no browser there is nothing to look at; CI installs one. Past the capture of test output, which hides what a
        // passing test prints.
        let mut terminal = std::io::stderr().lock();
        writeln!(terminal, "SKIPPED a_browser_shows_the_report...: chromium is not installed (Debian: apt-get install chromium)")
            .expect("open");
        return;
    };
    let server = trained().await;
    let clicks = server.data.join("report.html");
    let run = report(&["--model", "ctr", "--server", &format!("127.0.0.1:{}", server.port)], &clicks);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let (other, uplift) = uplift_report().await;
    for (folder, page, pictures) in [(&server.data, &clicks, 6), (&other.data, &uplift, 3)] {
        let html = std::fs::read_to_string(page).expect("the page");
        // Of each width: its pictures that are seen, what sticks out, texts of a chart that lie on each other, and what was loaded.
        let expected = WIDTHS.map(|width| format!("width={width} pictures={pictures} outside=0 small=0 crossed=0 loaded=0"));
        assert_eq!(measured(&browser, folder, &html), expected.join("; "), "{}", page.display());
        let shots = ["light", "dark"].map(|scheme| screenshot(&browser, folder, page, scheme));
        assert!(shots[0] != shots[1], "light and dark look the same");
    }
}

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|folder| ["chromium", "chromium-browser", "google-chrome"].map(|name| folder.join(name)))
        .find(|candidate| candidate.is_file())
}

fn headless(browser: &Path, profile: &Path, arguments: &[String]) -> Output {
    Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"])
        .arg(format!("--user-data-dir={}", profile.join("browser").display()))
        .args(arguments)
        .output()
        .expect("the browser starts")
}

/// The widths of a desk, a tablet and a telephone, in pixels.
const WIDTHS: [u32; 3] = [1280, 760, 360];

/// What a browser makes of the page in frames of these widths.
fn measured(browser: &Path, folder: &Path, page: &str) -> String {
    let page = page.replace('&', "&amp;").replace('"', "&quot;");
    let script = "onload = () => document.querySelector('p').textContent = [...document.querySelectorAll('iframe')].map(frame => {
        const root = frame.contentDocument.documentElement;
        const boxes = (selector, within = root) => [...within.querySelectorAll(selector)].map(element => element.getBoundingClientRect());
        const pictures = boxes('svg').filter(box => box.width > 200 && box.height > 50).length;
        const outside = boxes('main *:not(.hit)').filter(box => box.right > root.clientWidth + 0.5 || box.left < -0.5).length;
        const small = boxes('svg text').filter(box => box.width <= 0 || Math.max(box.width, box.height) < 6).length;
        const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3;
        const crossed = [...root.querySelectorAll('svg')].map(svg => boxes('text', svg))
            .flatMap(texts => texts.filter((a, i) => texts.slice(i + 1).some(b => meet(a, b)))).length;
        const loaded = frame.contentWindow.performance.getEntriesByType('resource').length;
        return `width=${root.scrollWidth} pictures=${pictures} outside=${outside} small=${small} crossed=${crossed} loaded=${loaded}`;
    }).join('; ');";
    let frame = |width: u32| format!("<iframe style=\"border:0;width:{width}px;height:8000px\" srcdoc=\"{page}\"></iframe>");
    let frames = WIDTHS.map(frame).concat();
    let wrapper = folder.join("frames.html");
    std::fs::write(&wrapper, format!("<!doctype html><meta charset=utf-8><p></p>{frames}<script>{script}</script>")).expect("written");
    let shown = headless(browser, folder, &["--dump-dom".to_owned(), format!("file://{}", wrapper.display())]);
    let dom = String::from_utf8_lossy(&shown.stdout).into_owned();
    let found = dom.split_once("<p>").and_then(|(_, rest)| rest.split_once("</p>")).map(|(found, _)| found.to_owned());
    found.unwrap_or_else(|| panic!("{dom}\n{}", String::from_utf8_lossy(&shown.stderr)))
}

/// The page as a PNG.
fn screenshot(browser: &Path, folder: &Path, page: &Path, scheme: &str) -> Vec<u8> {
    let to = folder.join(format!("{scheme}.png"));
    let dark = if scheme == "dark" { "--blink-settings=preferredColorScheme=0" } else { "--blink-settings=preferredColorScheme=1" };
    let arguments = [
        format!("--screenshot={}", to.display()),
        "--window-size=1280,2400".to_owned(),
        "--enable-logging=stderr".to_owned(),
        dark.to_owned(),
        format!("file://{}", page.display()),
    ];
    let run = headless(browser, folder, &arguments);
    let png = std::fs::read(&to).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&run.stderr)));
    assert!(png.starts_with(b"\x89PNG"));
    let log = String::from_utf8_lossy(&run.stderr);
    assert!(!log.contains("CONSOLE"), "the page says something on the console: {log}");
    // A page of one colour is a few kilobytes.
    assert!(png.len() > 60_000, "{} bytes", png.len());
    png
}
