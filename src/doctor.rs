//! `stratagem doctor`: what is installed, which runtime and device will be used, what is wrong and how it is repaired.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use stratagem_udfs::models::{Device, Runtime};

use crate::assets::{self, Assets, Depth, FileFacts};
use crate::config::{self, Config, Flags, ModelsFlags};

/// Options of `stratagem doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Configuration file, as for `serve`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// auto, cpu or cuda:N [default: auto].
    #[arg(long)]
    device: Option<String>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cache folder is known.
    #[error(transparent)]
    Assets(#[from] assets::Error),
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The configured device is none.
    #[error("{0}")]
    Device(#[from] stratagem_udfs::models::Error),
    /// The report could not be written.
    #[error("can't write the output: {0}")]
    Output(#[from] io::Error),
}

/// Prints the report for the configured device, and tells whether everything is well.
///
/// # Errors
/// Where the configuration can't be used or the output not be written. What is wrong with the installation is in the report.
pub fn run(args: &DoctorArgs, out: &mut dyn Write) -> Result<bool, Error> {
    let flags = Flags { models: ModelsFlags { device: args.device.clone() }, ..Flags::default() };
    let device: Device = Config::load(args.config.as_deref(), &flags)?.models.device.parse()?;
    let load = |library: &Path| {
        let runtime = Runtime::load(library, device).map_err(|error| error.to_string())?;
        Ok(RuntimeFacts {
            version: runtime.version().to_owned(),
            device: runtime.device().to_owned(),
            degraded: runtime.degraded().map(str::to_owned),
        })
    };
    Ok(report(&Assets::locate()?, load, out)?)
}

/// What loading ONNX Runtime tells.
#[derive(Debug, Clone)]
struct RuntimeFacts {
    /// The version that the library itself reports.
    version: String,
    /// The device that models will run on, such as `cpu` or `cuda:0`.
    device: String,
    /// Why a better device is not used, as one sentence; `None` when nothing is held back.
    degraded: Option<String>,
}

/// Prints the report on `out` and tells whether everything is well (exit code 0) or something is wrong (exit code 1).
///
/// Every installed file is hashed, so this reads a few hundred megabytes. `load` loads ONNX Runtime from a library path and
/// answers with its facts, or with the reason it could not, as one sentence.
///
/// # Errors
/// Only those of writing to `out`: what is wrong with the installation is the content of the report.
fn report(assets: &Assets, load: impl FnOnce(&Path) -> Result<RuntimeFacts, String>, out: &mut dyn Write) -> io::Result<bool> {
    let mut problems = Vec::new();
    let mut lines = vec![row("stratagem", env!("CARGO_PKG_VERSION")), row("cache", &assets.root().display().to_string())];
    lines.push(String::new());
    packages(assets, &mut lines, &mut problems);
    lines.push(String::new());
    samples(assets, &mut lines, &mut problems);
    lines.push(String::new());
    runtime(assets, load, &mut lines, &mut problems);
    lines.push(row("psql", &psql(std::env::var_os("PATH").as_deref())));
    for line in lines {
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out)?;
    if problems.is_empty() {
        writeln!(out, "nothing is wrong")?;
    } else {
        writeln!(out, "{}", if problems.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", problems.len()) })?;
        for problem in &problems {
            writeln!(out, "  {problem}")?;
        }
    }
    out.flush()?;
    Ok(problems.is_empty())
}

fn row(name: &str, value: &str) -> String {
    format!("{name:<12}{value}")
}

fn table_row(name: &str, version: &str, files: &[&FileFacts], state: &str) -> String {
    let bytes: u64 = files.iter().map(|facts| facts.bytes).sum();
    let count = match files.len() {
        0 => String::new(),
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    let size = if files.is_empty() { String::new() } else { size(bytes) };
    format!("  {name:<22}{version:<10}{size:>9}  {count:<10}{state}")
}

fn size(bytes: u64) -> String {
    match bytes {
        0..=1023 => format!("{bytes} B"),
        1024..=1_048_575 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

fn state(faults: usize) -> &'static str {
    if faults == 0 { "ok" } else { "WRONG" }
}

fn packages(assets: &Assets, lines: &mut Vec<String>, problems: &mut Vec<String>) {
    lines.push("packages".to_owned());
    let installed = match assets.packages() {
        Ok(installed) => installed,
        Err(error) => {
            lines.push("  unknown".to_owned());
            problems.push(error.to_string());
            return;
        }
    };
    for folder in assets::needed_folders() {
        let package = installed.get(&folder);
        // The user's own library stands in for the package, which the set-up then leaves out.
        if folder == "onnxruntime" && package.is_none() && assets.library_is_overridden() {
            lines.push(table_row(&folder, "-", &[], "not needed, ORT_DYLIB_PATH is set"));
            continue;
        }
        let faults = assets.package_faults(&folder, package, Depth::Content);
        let (name, version) = package.map_or((folder.as_str(), "-"), |package| (package.package.as_str(), package.version.as_str()));
        let files: Vec<_> = package.map(|package| package.files.values().collect()).unwrap_or_default();
        lines.push(table_row(name, version, &files, state(faults.len())));
        problems.extend(faults.iter().map(ToString::to_string));
    }
}

fn samples(assets: &Assets, lines: &mut Vec<String>, problems: &mut Vec<String>) {
    lines.push(format!("sample tables in {}", assets.data().display()));
    let written = match assets.samples() {
        Ok(written) => written,
        Err(error) => {
            lines.push("  unknown".to_owned());
            problems.push(error.to_string());
            return;
        }
    };
    for schema in assets::needed_samples() {
        let sample = written.get(&schema);
        let faults = assets.sample_faults(&schema, sample, Depth::Content);
        let files: Vec<_> = sample.map(|sample| sample.files.values().collect()).unwrap_or_default();
        lines.push(table_row(&schema, "", &files, state(faults.len())));
        problems.extend(faults.iter().map(ToString::to_string));
    }
}

fn runtime(assets: &Assets, load: impl FnOnce(&Path) -> Result<RuntimeFacts, String>, lines: &mut Vec<String>, problems: &mut Vec<String>) {
    let library = match assets.runtime_library() {
        Ok(library) => library,
        Err(error) => {
            lines.push(row("runtime", "none"));
            // The same missing file may be in the list already, from the look at its package.
            let text = error.to_string();
            if !problems.contains(&text) {
                problems.push(text);
            }
            return;
        }
    };
    let from = if assets.library_is_overridden() { " (ORT_DYLIB_PATH)" } else { "" };
    match load(&library) {
        Ok(facts) => {
            lines.push(row("runtime", &format!("ONNX Runtime {}", facts.version)));
            lines.push(row("", &format!("{}{from}", library.display())));
            lines.push(row("device", &facts.device));
            lines.extend(facts.degraded.map(|reason| row("", &reason)));
        }
        Err(reason) => {
            lines.push(row("runtime", "does not load"));
            lines.push(row("", &format!("{}{from}", library.display())));
            problems.push(format!("{} does not load ({reason}), repair it with `make setup`", library.display()));
        }
    }
}

/// Where psql is. Only the tests and people need it, so its absence is no problem of the server.
fn psql(path: Option<&std::ffi::OsStr>) -> String {
    let found: Option<PathBuf> =
        path.and_then(|path| std::env::split_paths(path).map(|folder| folder.join("psql")).find(|file| file.is_file()));
    found.map_or_else(
        || "not found; the tests need it (Debian: `apt-get install postgresql-client`)".to_owned(),
        |file| file.display().to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::fixture;

    fn cpu(_: &Path) -> Result<RuntimeFacts, String> {
        Ok(RuntimeFacts { version: "1.32.0".to_owned(), device: "cpu".to_owned(), degraded: None })
    }

    fn text(assets: &Assets, load: impl FnOnce(&Path) -> Result<RuntimeFacts, String>) -> (bool, String) {
        let mut out = Vec::new();
        let well = report(assets, load, &mut out).unwrap();
        (well, String::from_utf8(out).unwrap())
    }

    #[test]
    fn complete_installation_is_reported_well() {
        let folder = tempfile::tempdir().unwrap();
        let (well, text) = text(&fixture::install(folder.path()), cpu);
        assert!(well, "{text}");
        assert!(text.ends_with("\nnothing is wrong\n"), "{text}");
        assert!(text.contains("  onnxruntime           1.32.0         88 B  2 files   ok\n"), "{text}");
        assert!(text.contains("runtime     ONNX Runtime 1.32.0\n"), "{text}");
        assert!(text.contains("device      cpu\n"), "{text}");
    }

    #[test]
    fn missing_file_is_named_with_its_repair() {
        let folder = tempfile::tempdir().unwrap();
        let assets = fixture::install(folder.path());
        let library = folder.path().join("assets/onnxruntime/lib/libonnxruntime.so.1.32.0");
        std::fs::remove_file(&library).unwrap();
        let (well, text) = text(&assets, |_| panic!("a missing library is not loaded"));
        assert!(!well);
        assert!(text.contains("runtime     none\n"), "{text}");
        assert!(text.ends_with(&format!("\n1 problem\n  {} is missing, repair it with `make setup`\n", library.display())), "{text}");
    }

    #[test]
    fn one_damaged_byte_is_found_though_the_size_is_right() {
        let folder = tempfile::tempdir().unwrap();
        let assets = fixture::install(folder.path());
        let model = folder.path().join("assets/minilm/model.safetensors");
        let mut bytes = std::fs::read(&model).unwrap();
        bytes[3] ^= 1;
        std::fs::write(&model, bytes).unwrap();
        let (well, text) = text(&assets, cpu);
        assert!(!well);
        assert!(text.ends_with(&format!("\n1 problem\n  {} is damaged, repair it with `make setup`\n", model.display())), "{text}");
    }

    #[test]
    fn other_version_than_the_pinned_one_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let assets = fixture::install(folder.path());
        let manifest = folder.path().join("assets/manifest.json");
        let old = std::fs::read_to_string(&manifest).unwrap().replace(r#""version":"0.4.1""#, r#""version":"0.3.9""#);
        std::fs::write(&manifest, old).unwrap();
        let (well, text) = text(&assets, cpu);
        assert!(!well);
        let place = folder.path().join("assets/obp");
        let expected = format!("  obp 0.3.9 is installed in {} but 0.4.1 is needed, repair it with `make setup`\n", place.display());
        assert!(text.ends_with(&expected), "{text}");
    }

    #[test]
    fn empty_cache_folder_names_what_to_run() {
        let folder = tempfile::tempdir().unwrap();
        let (well, text) = text(&Assets::at(folder.path()), cpu);
        assert!(!well);
        let manifest = folder.path().join("assets/manifest.json");
        let sentence = format!("{} is missing, repair it with `make setup`", manifest.display());
        assert_eq!(text.matches(&sentence).count(), 1, "{text}");
    }

    #[test]
    fn library_that_does_not_load_is_a_problem_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let (well, text) = text(&fixture::install(folder.path()), |_| Err("invalid ELF header".to_owned()));
        assert!(!well);
        assert!(text.contains("libonnxruntime.so.1.32.0 does not load (invalid ELF header), repair it with `make setup`\n"), "{text}");
    }

    #[test]
    fn device_held_back_is_said_but_is_no_problem() {
        let folder = tempfile::tempdir().unwrap();
        let lacking = "libcudnn.so.9 is missing, so the CPU is used";
        let load = |path: &Path| cpu(path).map(|facts| RuntimeFacts { degraded: Some(lacking.to_owned()), ..facts });
        let (well, text) = text(&fixture::install(folder.path()), load);
        assert!(well, "{text}");
        assert!(text.contains(&format!("device      cpu\n            {lacking}\n")), "{text}");
    }

    #[test]
    fn missing_psql_tells_how_to_install_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(psql(Some(folder.path().as_os_str())).contains("apt-get install postgresql-client"));
        std::fs::write(folder.path().join("psql"), "").unwrap();
        assert_eq!(psql(Some(folder.path().as_os_str())), folder.path().join("psql").display().to_string());
    }
}
