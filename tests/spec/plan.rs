//! What a script does with each of its instances, known before it runs: how far each can be paused.

use std::collections::HashMap;

use wast::{WastDirective, WastExecute, WastInvoke, WastRet};

use crate::values;

/// What a script does with one instance.
#[derive(Debug, Default, Clone)]
pub struct Uses {
    /// Other modules import from it.
    pub registered: bool,
    /// The script reads its globals.
    pub read: bool,
    /// Objects of the host are passed to it.
    pub foreign: bool,
    /// Its functions give references other than null.
    pub references: bool,
}

/// The uses of the instances, in the order of their directives.
pub fn plan(directives: &[WastDirective<'_>]) -> Vec<Uses> {
    let mut planner = Planner::default();
    directives.iter().for_each(|d| planner.directive(d));
    planner.uses
}

#[derive(Default)]
struct Planner<'a> {
    uses: Vec<Uses>,
    ids: HashMap<&'a str, usize>,
}

impl<'a> Planner<'a> {
    fn directive(&mut self, directive: &WastDirective<'a>) {
        match directive {
            WastDirective::Module(module) => self.instance(module.name()),
            WastDirective::ModuleInstance { instance, .. } => self.instance(*instance),
            WastDirective::Register { module, .. } => {
                self.of(*module, |uses| uses.registered = true);
            }
            WastDirective::Invoke(invoke) => self.invoke(invoke, &[]),
            WastDirective::AssertReturn { exec, results, .. } => self.execute(exec, results),
            WastDirective::AssertTrap { exec, .. } | WastDirective::AssertException { exec, .. } => {
                self.execute(exec, &[]);
            }
            WastDirective::AssertExhaustion { call, .. } => self.invoke(call, &[]),
            _ => {}
        }
    }

    fn instance(&mut self, id: Option<wast::token::Id<'a>>) {
        if let Some(id) = id {
            self.ids.insert(id.name(), self.uses.len());
        }
        self.uses.push(Uses::default());
    }

    fn of(&mut self, id: Option<wast::token::Id<'_>>, change: impl FnOnce(&mut Uses)) {
        let at = match id {
            Some(id) => self.ids.get(id.name()).copied(),
            None => self.uses.len().checked_sub(1),
        };
        if let Some(uses) = at.and_then(|at| self.uses.get_mut(at)) {
            change(uses);
        }
    }

    fn execute(&mut self, exec: &WastExecute<'a>, results: &[WastRet<'_>]) {
        match exec {
            WastExecute::Invoke(invoke) => self.invoke(invoke, results),
            WastExecute::Get { module, .. } => self.of(*module, |uses| uses.read = true),
            WastExecute::Wat(_) => {}
        }
    }

    fn invoke(&mut self, invoke: &WastInvoke<'_>, results: &[WastRet<'_>]) {
        self.of(invoke.module, |uses| {
            uses.foreign |= invoke.args.iter().any(values::is_foreign);
            uses.references |= results.iter().any(values::is_reference);
        });
    }
}
