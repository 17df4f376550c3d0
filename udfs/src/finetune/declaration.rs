//! What `finetune` takes and gives.

use crate::declaration::{Column, Failure, Function, Kind, Parameter, Returns, Type};

/// The declaration of `finetune`.
pub static DECLARATION: Function = Function {
    name: "finetune",
    kind: Kind::Table,
    parameters: &[
        Parameter::value("model", Type::Text, "The name to save under: a lower-case letter, then letters, digits and underscores."),
        Parameter::query("query", "The training rows. Every column but the labels is a feature."),
        Parameter::value(
            "label",
            Type::Text,
            "The column of the query with the outcome: boolean, or 0 and 1; of a text model with what is to be learned. Only mere pairs of texts have none. \
             `outcome` is another name for this argument.",
        )
        .or("NULL")
        .also("outcome"),
        Parameter::value(
            "model_type",
            Type::Text,
            "The architecture: `logistic`; `fm` (Rendle 2010); `deepfm` (Guo et al. 2017); `dcnv2` (Wang et al. 2021); `finalmlp` (Mao et \
             al. 2023); `din`, which attends to a list of ids (Zhou et al. 2018); `esmm` (Ma X. et al. 2018) and `mmoe` (Ma J. et al. 2018), \
             which learn clicks and conversions. NULL is `esmm` with a `conversion`, `dcnv2` without.",
        )
        .or("NULL"),
        Parameter::value("conversion", Type::Text, "A second outcome, which needs the first: the conversion after a click. Then `predict_cvr` gives its probability.")
            .or("NULL"),
        Parameter::value(
            "task",
            Type::Text,
            "What is learned: `ctr`, the probability of the label (and of a conversion after it); `uplift`, what a treatment changes in it; of texts \
             `text_classification`, which of two or more classes a text is of, or which labels it has; `regression`, a number; `token_classification`, the \
             tags of words or spans of characters; `similarity`, vectors that are near to one another where texts belong together. Of a language \
             model `generation`, how prompts are completed, or `preference`, which of two completions of a prompt is the better one.",
        )
        .or("'ctr'"),
        Parameter::value(
            "method",
            Type::Text,
            "For texts with an encoder as `base`: `head` (also for NULL) trains a net on its vectors, and the encoder stays as it is; `full` trains the \
             encoder itself and a linear head. The others train a linear head and little else: `lora` low-rank changes of matrices (Hu et al. 2021), `adalora` \
             such changes whose ranks go where they matter (Zhang et al. 2023), `adapter` bottlenecks in each layer (Houlsby et al. 2019), `prefix` keys and \
             values of each layer (Li and Liang 2021).",
        )
        .or("NULL"),
        Parameter::value("prompt", Type::Text, "For `generation` and `preference`: the column of the prompts. NULL is the only column left.").or("NULL"),
        Parameter::value("system", Type::Text, "For the same tasks: the column of what the model is told before the prompt, as in `ai.generate`.")
            .or("NULL"),
        Parameter::value("rejected", Type::Text, "For `preference`: the column of the worse completions; `label` is that of the better ones.")
            .or("NULL"),
        Parameter::value(
            "chat",
            Type::Boolean,
            "For the same tasks: whether prompts are messages to the model, as in `ai.generate` (also for NULL), or texts that it goes on with, as in \
             `generate_strategy`.",
        )
        .or("NULL"),
        Parameter::value(
            "beta",
            Type::Double,
            "For `preference`: how far the model may move from what it was, the smaller the farther (Rafailov et al. 2023). NULL is 0.1.",
        )
        .or("NULL"),
        Parameter::value("treatment", Type::Text, "For `uplift`: the column that tells who was treated, boolean, or 0 and 1.").or("NULL"),
        Parameter::value(
            "learner",
            Type::Text,
            "For `uplift`: the meta-learner, `s`, `t` or `x` (Künzel et al. 2019) or `r` (Nie and Wager 2021). NULL is `x`.",
        )
        .or("NULL"),
        Parameter::value(
            "propensity",
            Type::Any,
            "For `uplift` with `x` or `r`: the probability that a row was treated: a number, the name of a column, or `'learned'` for a net of the \
             features where treatment was not drawn at random. NULL is the share of treated rows.",
        )
        .or("NULL"),
        Parameter::value(
            "features",
            Type::Text,
            "What columns are to be, where their values suggest another thing: `'price: log, zip: category, note: skip'`. Treatments: `skip`, \
             `category`, `hash(n)`, `standard`, `log`, `quantile(n)`, `piecewise`, `ngrams`.",
        )
        .or("NULL"),
        Parameter::value(
            "transform",
            Type::Text,
            "How columns are prepared, as a select list over the query: `'ml.quantile_bucketize(price, 20) AS price_b, *'`. What the `ml` \
             functions learn from the training rows is kept with the model, which then takes raw rows.",
        )
        .or("NULL"),
        Parameter::value("base", Type::Text, "A model to go on from (`'ctr'`, `'ctr@3'`): its features, sizes and weights. For texts what reads them: `ngram` (also for NULL), n-grams of words and characters, in any language; a text encoder of `ml.encoders`; or a text model with an encoder of its own, to go on from. For `generation` and `preference` a language model of `ml.language_models` (NULL is the installed one), or a version that was made of one.").or("NULL"),
        Parameter::value("rank", Type::Integer, "For `lora`, also of a language model, the rank of the changes, for `adalora` their mean rank in the end, for `adapter` the width of the bottlenecks, for `prefix` the number of keys. NULL is 8, 8, 32 and 16.").or("NULL"),
        Parameter::value("alpha", Type::Double, "For `lora` and `adalora`: the changes count alpha / rank times. NULL is twice the rank.").or("NULL"),
        Parameter::value(
            "targets",
            Type::Text,
            "For `lora` and `adalora`: the matrices of each layer that are changed, of `query`, `key`, `value`, `output`, `up` and `down`; of a language model also \
             `gate`. NULL is `'query, value'`.",
        )
        .or("NULL"),
        Parameter::value("max_length", Type::Integer, "For an encoder that is trained: the most tokens of a text that are read, NULL is 128; of a language model those of a prompt with its completion, NULL is 512.").or("NULL"),
        Parameter::value("accumulation", Type::Integer, "For an encoder that is trained: the batches whose gradients are summed before a step. NULL is 1.").or("NULL"),
        Parameter::value("layer_decay", Type::Double, "For an encoder that is trained: the learning rate of a layer over that of the one above; the embeddings are below the first layer. NULL is 1.").or("NULL"),
        Parameter::value("r_drop", Type::Double, "For classes by an encoder that is trained: every text is read twice, each time with a dropout of its own, and what the two differ in counts this much (Liang et al. 2021). NULL is 0.").or("NULL"),
        Parameter::value("precision", Type::Text, "For an encoder or a language model that is trained: what matrices are multiplied in, `float32` or, on a GPU, `bfloat16`; weights, sums and gradients are floats of 32 bits with either. NULL is `float32`.").or("NULL"),
        Parameter::value("word_dropout", Type::Double, "For an encoder that is trained: the share of the words of a text that are left out, others each time that it is learned from (Wei and Zou 2019). NULL is 0.").or("NULL"),
        Parameter::value("word_swap", Type::Double, "The same for words that change their place with another word of the text. NULL is 0.").or("NULL"),
        Parameter::value("word_synonyms", Type::Double, "The share of the words with one of the `synonyms` that give way to it. NULL is 0.1.").or("NULL"),
        Parameter::side("synonyms", "For an encoder that is trained: words and what they may give way to, as two columns of texts, a row for each pair."),
        Parameter::query("rehearsal", "For a text or a language model that goes on from a version: rows of earlier trainings, mixed in so that they are not unlearned. They have the columns of `query`, in the same order.").or("NULL"),
        Parameter::value("history", Type::Text, "For `din`: the list and what it is attended with, `'seen_items: item_id'`. NULL finds them.")
            .or("NULL"),
        Parameter::value("epochs", Type::Integer, "Passes over the rows, at most. NULL is 15; 30 for the n-grams of a text model, 4 for `full`, 8 for `prefix`, 6 for the other methods; 3 for `generation`, 2 for `preference`.").or("NULL"),
        Parameter::value("batch_size", Type::Integer, "Rows per step. NULL chooses by the number of rows.").or("NULL"),
        Parameter::value("embedding_dim", Type::Integer, "Numbers per embedding. NULL is 16; 32 for the n-grams of a text model.").or("NULL"),
        Parameter::value("cross_layers", Type::Integer, "Cross layers of `dcnv2`.").or("2"),
        Parameter::value("hidden", Type::Text, "Widths of the hidden layers.").or("'128, 64'"),
        Parameter::value("experts", Type::Integer, "Experts of `mmoe`.").or("4"),
        Parameter::value(
            "learning_rate",
            Type::Double,
            "The learning rate of the dense part of the net (AdamW), or of an encoder or a language model. NULL is 0.002; 0.00005 for `full`, 0.01 for `prefix`, 0.001 for the other methods and `generation`, 0.0002 for `preference`.",
        )
        .or("NULL"),
        Parameter::value("table_learning_rate", Type::Double, "The learning rate of the embeddings (row-wise Adagrad).").or("0.1"),
        Parameter::value("schedule", Type::Text, "How the learning rates change after the warm-up: `constant`, `linear` or `cosine`. NULL is `constant`; `linear` for an encoder or a language model that is trained.")
            .or("NULL"),
        Parameter::value("warmup", Type::Double, "The share of the steps in which the learning rates rise from 0. NULL is 0; 0.1 for an encoder or a language model that is trained.").or("NULL"),
        Parameter::value("weight_decay", Type::Double, "Decoupled weight decay of the dense part.").or("0.01"),
        Parameter::value("l2", Type::Double, "L2 penalty of the embeddings that a step uses.").or("0"),
        Parameter::value("dropout", Type::Double, "The share of hidden units left out in a step; of the vectors of texts, and of what low-rank changes read. NULL is 0; 0.1 for an encoder that is trained.").or("NULL"),
        Parameter::value("value_dropout", Type::Double, "A value seen c times counts as unseen in a share v / (v + c) of its uses.").or("10"),
        Parameter::value("token_dropout", Type::Double, "The share of the n-grams of a text, or of the items of a list, left out in a step. NULL is 0; 0.85 for a text model.").or("NULL"),
        Parameter::value("label_smoothing", Type::Double, "Labels are moved this share of the way to one half.").or("0"),
        Parameter::value("adversarial", Type::Double, "Length by which the embeddings of a row, or of a text, are moved against the loss in a second pass (Miyato et al. 2017); 0 leaves it out.")
            .or("0"),
        Parameter::value("positive_weight", Type::Double, "Weight of rows with label 1; NULL balances the classes. Probabilities are corrected back; not so those of a text model, of which only NULL and 1 are known.")
            .or("1"),
        Parameter::value("negative_sampling", Type::Double, "Share of the rows with label 0 that an epoch uses. Probabilities are corrected back.")
            .or("1"),
        Parameter::value("calibration", Type::Text, "Correction of the probabilities on the held-out rows: `none`, `temperature` or `isotonic`.")
            .or("'none'"),
        Parameter::value("ensembles", Type::Integer, "Nets trained with seeds of their own, whose logits are averaged. NULL is 3; 5 for the n-grams of a text model, of which the last is linear where there are no more than `embedding_dim` classes; 1, and no more, for an encoder or a language model that is trained.").or("NULL"),
        Parameter::value("trials", Type::Integer, "Settings to try: the given one, then random ones near it. The best one is kept.").or("1"),
        Parameter::value("split", Type::Text, "Which rows are held out: `random`, `time` (the last ones by `split_col`) or `column` (where `split_col` is true).")
            .or("'random'"),
        Parameter::value("split_col", Type::Text, "The column of the split.").or("NULL"),
        Parameter::value("validation", Type::Double, "The share of rows held out to validate on; 0 trains on all.").or("0.1"),
        Parameter::value("early_stop", Type::Boolean, "Stop when the metric of the held-out rows no longer gets better.").or("true"),
        Parameter::value("metric", Type::Text, "What tells the best epoch: `logloss` or `auc`.").or("'logloss'"),
        Parameter::value("patience", Type::Integer, "Epochs without a better one before it stops.").or("3"),
        Parameter::value("seed", Type::BigInt, "Seed of the split, the order of the rows and the first weights.").or("0"),
    ],
    returns: Returns::Rows(&[
        Column::new("model", Type::Text, "The model's name."),
        Column::new("version", Type::Integer, "The saved version; only in the last row, NULL while the training runs.").nullable(),
        Column::new("trial", Type::Integer, "The setting that is tried, from 1."),
        Column::new("member", Type::Integer, "The net of the ensemble, from 1; in the last row their number."),
        Column::new("epoch", Type::Integer, "The epoch, from 1; in the last row the epoch whose weights were kept, of the first net."),
        Column::new("epochs", Type::Integer, "The epochs there will be at most."),
        Column::new("rows", Type::BigInt, "The rows trained on in an epoch."),
        Column::new("train_loss", Type::Double, "Mean loss of the epoch's steps."),
        Column::new("validation_loss", Type::Double, "Log loss of the held-out rows after the epoch (squared error over variance, of a stage that learns numbers); in the last row of the whole model.").nullable(),
        Column::new("validation_auc", Type::Double, "Area under the ROC curve of these rows; in the last row of the whole model.").nullable(),
        Column::new("seconds", Type::Double, "Seconds since the training began."),
        Column::new("eta_seconds", Type::Double, "Seconds until the end if no epoch is left out; 0 in the last row."),
        Column::new(
            "stage",
            Type::Text,
            "Of an uplift model, what the net is for: `outcome`, `treated`, `control`, `propensity`, `effect_treated`, `effect_control` or `effect`.",
        )
        .nullable(),
        Column::new("validation_qini", Type::Double, "Qini coefficient of the held-out rows; only in the last row of an uplift model whose outcome is 0 or 1.").nullable(),
        Column::new("validation_auuc", Type::Double, "Area under the uplift curve of these rows, in the same row.").nullable(),
    ]),
    summary: "Trains a click, uplift, text or language model on the rows of a query and saves it as a new version",
    docs: "Runs the query, trains, and returns a row after every epoch, at once. When the training is over the model is saved as the next \
           version of its name, and then the last row says so: its `version` is set. From then on `predict_ctr` with the bare name uses it. \
           Only `model`, `query` and `label` are needed; the other arguments have defaults that suit most tables.\n\n\
           The types and values of the query's columns decide what becomes of them, as `ml.feature_info` shows afterwards. Integers, text \
           and booleans have an embedding for every value that was seen five times (one more stands for rarer and unseen values, one for \
           NULL; with very many values they are hashed). Integers are numbers too: numbers are standardised, and an embedding follows \
           them piecewise linearly over 48 bins. A timestamp becomes its hour, weekday and age (of UTC if it has a time zone), a date its \
           weekday, month and age. The items of a list of integers or texts are pooled, or attended to by `din`; a list of other numbers is a \
           vector. A text of three or more words is the bag of its words and word pairs, in any language. Columns that tell nothing (one \
           value only, always NULL, nearly every value different) are left out. A column that tells the label by itself gets a WARNING. Rows \
           with a NULL label are refused: filter them in the query.\n\n\
           The same rows and the same seed give the same model, in whatever order the rows arrive. A statement that is canceled, times out \
           or loses its client stops the training within a step, and nothing is saved. For the same reason `LIMIT` directly on `finetune` \
           is refused. Rows that do not fit into the memory of the server are trained on from temporary files.\n\n\
           With `task => 'uplift'` the rows are those of an experiment, or of anything in which some were treated and others not. The model learns what the \
           treatment changes in the outcome, and `predict_uplift` gives it; an outcome with other numbers than 0 and 1, such as an amount, is \
           one of which the expected value changes. The learners are made of the same nets and take the same arguments: `s` is one net of which the \
           treatment is a feature; `t` a net per arm; `x` imputes each row's effect by the net of the other arm and learns that; `r` learns the \
           effect from what is left when outcome and treatment are predicted without it, by nets that have not seen the row (five folds, so `member` \
           counts folds there). Their stages follow one another and hold out the same rows, `trials` searches in the first one, and the last row \
           has the figures of the whole model.\n\n\
           With `task => 'text_classification'` the query has two columns, a text and its class (text, a whole number or a boolean), and `ai.classify(text, \
           model => ...)` then gives the class of a text. A list of labels (text[]) makes a model that gives each text none, one or several of them. The net is that of \
           `dcnv2`; its loss is the cross-entropy of the classes, which `validation_loss` \
           shows. Of n-grams the last net of the ensemble is a linear model, which counts as much as the others together or, where the held-out rows \
           are the worse for it, nothing. With `regression` the second column is a number, and `ai.estimate` gives it; the loss is the squared error over the variance. With another \
           `method` than `head` the encoder learns too: its step is one of AdamW with the length of the gradient held to 1, on batches \
           of texts of about one length (16 texts, 32 from 2048 rows up). `value_dropout` and the sizes of nets mean nothing to it, and ensembles \
           and trials are not for it. `ml.evaluations` then counts the weights, `parameters` and `trainable_parameters`. \
           Rows without a text are left out, and of very long texts only the beginning is read: notices count both. `ml.evaluations` has the \
           accuracy and the macro F1 of the held-out rows, and what else tells how good a model of another task is.\n\n\
           With `task => 'token_classification'` the query has lists of words and lists of as many tags (`O`, `B-brand`, `I-brand`), or texts and lists of rows of \
           `start`, `length` and `label`, such that `substr(text, start, length)` is the span; `ai.tags` and `ai.entities` then find them. With `task => \
           'similarity'` it has two texts, and perhaps a label from -1 to 1: the model gives vectors, and `ai.embed`, `ai.similarity` and `ai.match_answer` take its \
           name like that of an encoder. Both train an encoder, so they need a `base` and a `method`.\n\n\
           With `task => 'generation'` the query has a prompt and a completion, which `label` names, and a language model learns low-rank changes that make \
           the completion likely. With `task => 'preference'` it has a prompt, a better completion, which `label` names, and a worse one, and the model \
           learns to tell them apart (direct preference optimisation). The other arguments are `system`, `chat`, `beta`, `rank`, `alpha`, `targets`, \
           `max_length`, `dropout` and those of any training by AdamW; 2 to 8 rows make a step. `ai.generate` and `generate_strategy` take the model by its name. \
           `ml.evaluations` has the loss before and after on the held-out rows, and the accuracy of preferences.",
    example: "SELECT epoch, train_loss, validation_auc, version\n\
              FROM finetune(model => 'ctr', query => $$SELECT user_id, item_id, price, click FROM impressions$$, label => 'click', epochs => 2)",
    errors: &[
        Failure { sqlstate: "42703", when: "the query has no column of the label's name, or of one in `features`, `split_col` or `conversion`" },
        Failure {
            sqlstate: "42804",
            when: "a column has a type that cannot be a feature (a row, bytes), or the label is not boolean or numeric",
        },
        Failure { sqlstate: "42704", when: "the model to go on from does not exist" },
        Failure { sqlstate: "42601", when: "`transform` is not a select list" },
        Failure { sqlstate: "22004", when: "a label is NULL in some rows" },
        Failure {
            sqlstate: "22023",
            when: "a label is not 0 or 1, all labels are the same, there are no rows, or an option is out of range; of an uplift model: all rows are of one \
                   arm, an arm has one outcome only, a feature tells who was treated, or a propensity is not between 0 and 1; of texts: a class has one row, words have not \
                   as many tags, a tag is none, or a span is outside of its text",
        },
        Failure { sqlstate: "0A000", when: "a LIMIT would end the training before the model is saved" },
        Failure { sqlstate: "53200", when: "the rows fit neither into the memory of the server nor into its temporary files" },
    ],
};
