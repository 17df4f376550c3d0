//! One request on the device.

use std::sync::Arc;
use std::time::Duration;

use super::super::adapter::Adapter;
use super::super::constraint::{Constraint, Guide};
use super::super::prefix::Prefix;
use super::super::queue::{Answer, Job};
use super::super::sampling::{Sampler, Scratch};
use super::super::text::Text;
use super::super::{TextStream, Tokens};
use super::{Completion, Finish, plan};
use crate::error::{Error, Result};

/// Where the keys and values of the shared start of the prompt come from.
#[derive(Debug)]
pub(super) enum Start {
    /// There is none, or the row has them.
    Done,
    /// These tokens, not computed yet.
    Wanted(Vec<u32>),
    /// From this prefix of so many tokens.
    Known(Arc<Prefix>, usize),
}

/// A request that has a place in the slab.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) answer: Answer,
    pub(super) adapter: Option<Arc<Adapter>>,
    /// Order of admission.
    pub(super) age: u64,
    pub(super) start: Start,
    /// Tokens whose keys and values the slab has.
    pub(super) past: usize,
    /// Tokens that follow them: the rest of the prompt, or what was generated and not read back.
    pub(super) pending: Vec<u32>,
    pub(super) device: Duration,
    prompt_tokens: usize,
    shared_tokens: usize,
    queued: Duration,
    sampler: Sampler,
    guide: Option<Guide>,
    stream: TextStream,
    text: Text,
    ids: Vec<u32>,
    chosen: usize,
    log_probability: f64,
}

impl Row {
    pub(super) fn new(job: Job, age: u64) -> Self {
        let Job { request, answer, submitted } = job;
        let shared = plan::shared(request.prompt.len(), request.shared);
        let stop = request.sampling.stop.clone();
        Self {
            answer,
            adapter: request.adapter,
            age,
            start: shared.map_or(Start::Done, |shared| Start::Wanted(request.prompt[..shared].to_vec())),
            past: 0,
            prompt_tokens: request.prompt.len(),
            pending: request.prompt,
            device: Duration::ZERO,
            shared_tokens: 0,
            queued: submitted.elapsed(),
            sampler: Sampler::new(request.sampling),
            guide: request.constraint.map(Constraint::into_guide),
            stream: TextStream::default(),
            text: Text::new(stop),
            ids: Vec::new(),
            chosen: 0,
            log_probability: 0.0,
        }
    }

    pub(super) fn adapter_id(&self) -> Option<u64> {
        self.adapter.as_ref().map(|adapter| adapter.id())
    }

    /// Tokens to read before the next choice, without those of a known prefix.
    pub(super) fn left(&self) -> usize {
        match &self.start {
            Start::Known(_, tokens) => self.pending.len() - tokens,
            _ => self.pending.len(),
        }
    }

    /// The slab has the first `tokens` tokens of this row, from a prefix.
    pub(super) fn skip(&mut self, tokens: usize) {
        self.read(tokens);
        self.shared_tokens = tokens;
        self.start = Start::Done;
    }

    /// The slab has `tokens` tokens more.
    pub(super) fn read(&mut self, tokens: usize) {
        self.past += tokens;
        self.pending.drain(..tokens);
    }

    /// Chooses the next token. Gives the reason when the text ends with it.
    pub(super) fn advance(&mut self, scores: &[f32], tokens: &Tokens, eos: &[u32], scratch: &mut Scratch) -> Result<Option<Finish>> {
        let allowed = self.guide.as_mut().map(Guide::allowed).transpose()?;
        let choice = self.sampler.choose(scores, allowed, scratch).ok_or_else(|| Error::Runtime {
            reason: "the language model's scores are not numbers, or its constraint allows no token".to_owned(),
        })?;
        self.chosen += 1;
        self.log_probability += choice.log_probability;
        if eos.contains(&choice.id) {
            self.ids.push(choice.id);
            return Ok(Some(if self.guide.is_some() { Finish::Constraint } else { Finish::End }));
        }
        if let Some(guide) = &mut self.guide {
            guide.accept(choice.id)?;
        }
        if let Some(finish) = self.append(choice.id, tokens) {
            return Ok(Some(finish));
        }
        let forced = self.guide.as_mut().map(Guide::forced).unwrap_or_default();
        for id in forced {
            if let Some(finish) = self.append(id, tokens) {
                return Ok(Some(finish));
            }
        }
        let complete = self.guide.as_ref().is_some_and(Guide::complete);
        Ok(complete.then_some(Finish::Constraint))
    }

    fn append(&mut self, id: u32, tokens: &Tokens) -> Option<Finish> {
        self.ids.push(id);
        self.pending.push(id);
        self.sampler.note(id);
        if self.text.push(&tokens.push(&mut self.stream, id)) {
            return Some(Finish::Stop);
        }
        (self.ids.len() >= self.sampler.sampling().max_tokens).then_some(Finish::Length)
    }

    pub(super) fn finish(self, finish: Finish) -> (Answer, Completion) {
        let completion = Completion {
            text: self.text.finish(),
            ids: self.ids,
            log_probability: self.log_probability,
            chosen: self.chosen,
            finish,
            prompt_tokens: self.prompt_tokens,
            shared_tokens: self.shared_tokens,
            queued: self.queued,
            device: self.device,
        };
        (self.answer, completion)
    }
}
