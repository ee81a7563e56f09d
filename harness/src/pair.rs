//! A guest on the engine that is asked for, and the same guest on the software
//! engine, which has the last word: what KVM finds must be found there too, as
//! it comes again there bit for bit; and what KVM cannot decide is decided there.
//!
//! Both start from one template, which the software engine has booted.

use std::path::PathBuf;

use latefork_cpu::CpuModel;
use latefork_vmm::engine::EngineKind;
use latefork_vmm::engine::select::create;
use latefork_vmm::machine::MachineError;
use latefork_wire::program::Program;

use crate::executor::{Budget, Executor};
use crate::guest::Guest;
use crate::replay::{Outcome, Replay, replay, signatures};
use crate::template::{Prepared, Template, TemplateError};
use crate::verdict::{Judged, Verdict, judge};

/// Why a verdict of KVM's was not confirmed.
pub const UNCONFIRMED: &str = "seen on kvm alone: the software engine does not show it";

/// See the module.
#[derive(Debug)]
pub struct Pair {
    guest: Guest,
    template: PathBuf,
    model: CpuModel,
    executor: Executor,
    /// Made when first needed, where `executor` is not it.
    exact: Option<Executor>,
}

impl Pair {
    /// Opens the template at `template`, or boots `guest` on the software engine
    /// and writes it; `kind` runs programs from there. Says why it was booted.
    ///
    /// # Errors
    ///
    /// The guest does not get ready, or there is no such engine here.
    pub fn open(
        guest: Guest,
        template: PathBuf,
        kind: EngineKind,
        model: CpuModel,
    ) -> Result<(Self, Option<String>), TemplateError> {
        let exact = open_exact(&guest, &template, model)?;
        let made_because = exact.made_because.clone();
        let prepared = match kind {
            EngineKind::Soft => exact,
            EngineKind::Kvm => {
                let engine = create(kind, model).map_err(MachineError::from)?;
                Template::open(&guest, &template, engine)?
            }
        };
        let pair = Self {
            guest,
            template,
            model,
            executor: Executor::new(prepared, Budget::default()),
            exact: None,
        };
        Ok((pair, made_because))
    }

    /// The executor on the engine that was asked for.
    pub fn executor(&mut self) -> &mut Executor {
        &mut self.executor
    }

    /// That executor alone.
    pub fn into_executor(self) -> Executor {
        self.executor
    }

    /// The engine that was asked for.
    pub fn kind(&mut self) -> EngineKind {
        self.executor.machine().engine().kind()
    }

    /// The executor on the software engine.
    ///
    /// # Errors
    ///
    /// The template cannot be opened again.
    pub fn exact(&mut self) -> Result<&mut Executor, TemplateError> {
        if self.kind() == EngineKind::Soft {
            return Ok(&mut self.executor);
        }
        if self.exact.is_none() {
            let prepared = open_exact(&self.guest, &self.template, self.model)?;
            self.exact = Some(Executor::new(prepared, Budget::default()));
        }
        Ok(self.exact.as_mut().expect("it was made just now"))
    }

    /// What `judged`, which [`Self::executor`] gave for `program`, amounts to:
    /// itself on the software engine, and where nothing was found. A finding of
    /// KVM's is the software engine's own if that finds one of the same
    /// signature, else inconclusive; what was inconclusive is what the software
    /// engine says.
    ///
    /// # Errors
    ///
    /// The host failed.
    pub fn confirm(&mut self, judged: Judged, program: &Program) -> Result<Judged, TemplateError> {
        if self.kind() == EngineKind::Soft || !is_open(&judged.verdict) {
            return Ok(judged);
        }
        let exact = judge(self.exact()?, program)?;
        if decides(&judged.verdict, &exact.verdict) {
            return Ok(exact);
        }
        let verdict = Verdict::Inconclusive(UNCONFIRMED);
        Ok(Judged { verdict, ..judged })
    }

    /// As [`replay`] on [`Self::executor`], with the software engine's word on it
    /// as in [`Self::confirm`].
    ///
    /// # Errors
    ///
    /// The host failed.
    pub fn replay(&mut self, program: &Program) -> Result<Replay, TemplateError> {
        let ran = replay(&mut self.executor, program)?;
        if self.kind() == EngineKind::Soft || !is_open(&ran.verdict) {
            return Ok(ran);
        }
        let exact = replay(self.exact()?, program)?;
        if decides(&ran.verdict, &exact.verdict) {
            return Ok(exact);
        }
        let verdict = Verdict::Inconclusive(UNCONFIRMED);
        let outcome = Outcome {
            verdict: verdict.name().to_owned(),
            ..ran.outcome
        };
        Ok(Replay {
            outcome,
            verdict,
            ..ran
        })
    }
}

/// Whether KVM's verdict wants the software engine's word.
fn is_open(kvm: &Verdict) -> bool {
    matches!(kvm, Verdict::Finding(_) | Verdict::Inconclusive(_))
}

/// Whether the software engine's verdict stands in place of KVM's.
fn decides(kvm: &Verdict, exact: &Verdict) -> bool {
    let Verdict::Finding(findings) = kvm else {
        return true;
    };
    let seen = signatures(findings);
    match exact {
        Verdict::Finding(findings) => signatures(findings).iter().any(|one| seen.contains(one)),
        // The control run shows it too, or memory ran out: not the call's doing.
        Verdict::BaseKernel(_) | Verdict::Resource(_) => true,
        Verdict::Clean | Verdict::Inconclusive(_) | Verdict::NotRun(_) => false,
    }
}

fn open_exact(
    guest: &Guest,
    template: &std::path::Path,
    model: CpuModel,
) -> Result<Prepared, TemplateError> {
    Template::cached(guest, template, &mut || {
        create(EngineKind::Soft, model).expect("the software engine runs everywhere")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Finding;

    #[test]
    fn the_software_engine_has_the_last_word() {
        let stuck = || Verdict::Finding(vec![Finding::Stuck]);
        let both = || Verdict::Finding(vec![Finding::Hang, Finding::Stuck]);
        let other = || Verdict::Finding(vec![Finding::Hang]);
        let base = || Verdict::BaseKernel(vec![Finding::Stuck]);
        let open = || Verdict::Inconclusive("the budget is spent");
        let table = [
            (stuck(), stuck(), true),
            (stuck(), both(), true),
            (stuck(), other(), false),
            (stuck(), Verdict::Clean, false),
            (stuck(), open(), false),
            (stuck(), base(), true),
            (open(), Verdict::Clean, true),
            (open(), stuck(), true),
        ];
        for (kvm, soft, decided) in table {
            assert!(is_open(&kvm), "{kvm:?}");
            assert_eq!(decides(&kvm, &soft), decided, "{kvm:?}, {soft:?}");
        }
        assert!(!is_open(&Verdict::Clean) && !is_open(&base()));
    }
}
