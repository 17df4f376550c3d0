//! `stratagem models`: models out of a server's folder and into it, also while the server runs.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use stratagem_udfs::language::{Form, Precision};
use stratagem_udfs::models::{DEFAULT_ALIAS, Import, Models, VersionInfo};
use stratagem_udfs::{encoder, language};

use crate::config::{self, Config, Flags};

/// What to do with models.
#[derive(Debug, Subcommand)]
pub enum ModelsVerb {
    /// List all versions of all models.
    List {
        /// Where the models are.
        #[command(flatten)]
        place: Place,
    },
    /// Write a version to a folder, for any program with ONNX Runtime and for `import`.
    ///
    /// model.onnx takes plain columns and gives probabilities, signature.json says how each input is made, and version/ holds the files of the
    /// version as they are.
    Export {
        /// The model: a name, name@version or name@alias.
        model: String,
        /// The folder to make.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Replace an earlier export in that folder.
        #[arg(long)]
        force: bool,
        /// Where the models are.
        #[command(flatten)]
        place: Place,
    },
    /// Save an export, or an ONNX file from elsewhere, as the next version of a name; or a language model or text encoder under a name.
    ///
    /// A language model is a GGUF file, or a folder in the style of Hugging Face (config.json, model.safetensors, tokenizer.json), of the llama and
    /// qwen2 families. A text encoder is such a folder of the bert, roberta and xlm-roberta families, also as sentence-transformers writes it.
    ///
    /// The inputs of an ONNX file are columns: a tensor of shape n or n x 1 is the column of its name, a tensor of shape n x k is k columns. Its
    /// output is a probability for each row (n or n x 1) or those of two classes (n x 2).
    Import {
        /// A folder that `export` made, an ONNX file, a language model or a text encoder.
        from: PathBuf,
        /// The name to save it under.
        #[arg(long)]
        name: String,
        /// What the probability is of; shown in lists.
        #[arg(long)]
        label: Option<String>,
        /// The columns of a tensor of shape n x k, separated by commas [default: "columns" in a signature.json beside the file, else f0, f1, ...].
        #[arg(long, value_delimiter = ',', value_name = "NAMES")]
        columns: Vec<String>,
        /// What a language model calculates with: int8, int4, f16 or f32 [default: int8]; a text encoder: f32 or int8 [default: f32].
        #[arg(long)]
        precision: Option<Precision>,
        /// How many weights of a language model or an encoder share a scale, 32, 64 or 128: fewer are more exact, more are faster [default: 128].
        #[arg(long)]
        block: Option<usize>,
        /// Where the models are.
        #[command(flatten)]
        place: Place,
    },
}

/// Where the models are: the folders of a server.
#[derive(Debug, Args)]
pub struct Place {
    /// Configuration file, as for `serve`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of Parquet files, as for `serve`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The server's own folder [default: .stratagem inside the data folder].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// There is no server's folder.
    #[error("{} has no models; name the server's folders with --data DIR or --state DIR", .0.display())]
    NoModels(PathBuf),
    /// The model can't be read or saved.
    #[error("{0}{hint}", hint = .0.hint().map(|hint| format!("\nHINT: {hint}")).unwrap_or_default())]
    Model(#[from] stratagem_udfs::models::Error),
    /// The answer could not be written.
    #[error("can't write the output: {0}")]
    Output(#[from] io::Error),
}

impl Place {
    /// The models there. A folder that does not exist is made by an import only.
    fn models(&self, make: bool) -> Result<Arc<Models>, Error> {
        let flags = Flags { data: self.data.clone(), state: self.state.clone(), ..Flags::default() };
        let config = Config::load(self.config.as_deref(), &flags)?;
        let known = config.models_folder();
        if !known.is_dir() && !(make && (config.data.is_dir() || self.state.is_some())) {
            return Err(Error::NoModels(known));
        }
        Ok(crate::server::models(&config)?)
    }
}

/// Does it, and says on `out` what was done.
///
/// # Errors
/// Where the folder of models, the model or the file can't be used.
pub fn run(verb: &ModelsVerb, out: &mut dyn Write) -> Result<(), Error> {
    match verb {
        ModelsVerb::List { place } => {
            let models = place.models(false)?;
            list(&models, out)
        }
        ModelsVerb::Export { model, to, force, place } => {
            let pinned = place.models(false)?.export(model, to, *force)?;
            Ok(writeln!(out, "{pinned} is in {}", to.display())?)
        }
        ModelsVerb::Import { from, name, precision, block, place, .. } if encoder::accepts(from) => {
            let form = encoder::EXACT;
            let form = Form { precision: precision.unwrap_or(form.precision), block: block.unwrap_or(form.block) };
            let facts = place.models(true)?.import_encoder(name, from, form)?;
            let (family, numbers, millions) = (facts.family.name(), facts.dimension, facts.parameters as f64 / 1e6);
            let vectors = format!("vectors of {numbers} numbers");
            Ok(writeln!(
                out,
                "{} is imported as the text encoder {name}: {family}, {vectors}, {millions:.1} million weights",
                from.display()
            )?)
        }
        ModelsVerb::Import { from, name, precision, block, place, .. } if language::accepts(from) => {
            let form = Form::default();
            let form = Form { precision: precision.unwrap_or(form.precision), block: block.unwrap_or(form.block) };
            let facts = place.models(true)?.import_language(name, from, form)?;
            let (family, millions) = (facts.architecture.name(), facts.parameters as f64 / 1e6);
            Ok(writeln!(out, "{} is imported as the language model {name}: {family}, {millions:.1} million weights", from.display())?)
        }
        ModelsVerb::Import { from, name, label, columns, place, .. } => {
            let import = Import { name: name.clone(), label: label.clone(), columns: columns.clone() };
            let pinned = place.models(true)?.import(from, &import)?;
            Ok(writeln!(out, "{} is saved as {pinned}", from.display())?)
        }
    }
}

fn list(models: &Models, out: &mut dyn Write) -> Result<(), Error> {
    let row = |out: &mut dyn Write, cells: [&str; 5]| {
        let [model, kind, label, created, aliases] = cells;
        let line = format!("{model:<24} {kind:<10} {label:<16} {created:<24} {aliases}");
        writeln!(out, "{}", line.trim_end())
    };
    row(out, ["model", "type", "label", "created", "aliases"])?;
    for version in models.list()? {
        let VersionInfo { name, version: number, aliases, is_default, .. } = &version;
        let reference = format!("{name}@{number}");
        let mut aliases = aliases.clone();
        if *is_default && !aliases.iter().any(|alias| alias == DEFAULT_ALIAS) {
            aliases.insert(0, DEFAULT_ALIAS.to_owned());
        }
        let aliases = aliases.join(", ");
        match version.manifest() {
            Some(m) => row(out, [&reference, &m.model_type(), &m.source.label, &m.created_at, &aliases])?,
            None => row(out, [&reference, "damaged", "", "", &aliases])?,
        }
    }
    Ok(())
}
