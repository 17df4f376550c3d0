//! What the README shows works as it is shown.

use std::path::Path;

use crate::clients::psql;
use crate::demo::sample_data;
use crate::running::Running;

const README: &str = include_str!("../../README.md");

#[test]
fn sql_of_the_readme_runs_in_psql_and_gives_rows() {
    let script: String = README.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let statements = script.matches(";\n").count();
    assert!(statements >= 3, "{script}");
    let folder = sample_data();
    let server = Running::over(folder.path(), &[]);
    let file = folder.path().join("readme.sql");
    std::fs::write(&file, &script).expect("a file can be written");
    let run = psql(&server, &["-f", file.to_str().expect("a plain path")]);
    let (shown, failed) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{shown}\n{failed}");
    let counts: Vec<&str> = shown.lines().filter(|line| line.starts_with('(') && line.ends_with(')')).collect();
    assert_eq!(counts.len(), statements, "{shown}\n{failed}");
    assert!(!counts.contains(&"(0 rows)"), "{shown}");
}

#[test]
fn links_of_the_front_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut links = 0;
    for page in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/src/SUMMARY.md", "docs/src/architecture.md"] {
        let text = std::fs::read_to_string(root.join(page)).expect("the page is there");
        let folder = root.join(page).parent().expect("a page is in a folder").to_owned();
        for rest in text.split("](").skip(1) {
            let link = rest.split([')', '#']).next().unwrap_or_default();
            if !link.contains("://") {
                assert!(folder.join(link).exists(), "{page} links to {link}, which is not there");
                links += 1;
            }
        }
    }
    assert!(links > 5, "only {links} links were found");
}
