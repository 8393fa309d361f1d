//! Runs one script: every directive, with its modules rewritten.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail, ensure};
use wasm_ckpt::instrument::{self, Instrumented, PREFIX, Refusal};
use wasm_ckpt::machine;
use wasmtime::{Engine, Extern, Module, Store, Val};
use wast::{QuoteWat, Wast, WastDirective, WastExecute, WastInvoke, WastRet, Wat};

use crate::guest::{Failure, Local, Moved, Outcome, Pauses};
use crate::plan::{Uses, plan};
use crate::{spectest, values};

/// How guests are paused. What cannot be paused so is paused less, and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Never.
    Plain,
    /// At every point, in the same instance.
    InPlace,
    /// At every point, captured, encoded, decoded and restored into a fresh instance.
    Moved,
}

/// What all scripts share.
pub struct Engines {
    pub plain: Engine,
    /// One for each cost model, newest first.
    pub machine: Vec<machine::Engine>,
}

/// What became of a script.
#[derive(Debug, Default)]
pub struct Report {
    /// Directives that ran.
    pub run: u64,
    pub pauses: u64,
    /// Directives that did not run, and modules that were paused less than asked, by reason.
    pub skipped: BTreeMap<String, u64>,
    pub failures: Vec<String>,
}

// One at a time: the size of the enum does not matter.
#[allow(clippy::large_enum_variant)]
enum Guest {
    Local(Local),
    Moved(Box<Moved>),
    /// The module was refused by design, or needs one that was.
    Refused,
    /// Nothing is to be paused in it: the run without pauses is its test.
    NotPaused,
}

impl Guest {
    /// Why it is not there.
    fn absent(&self) -> Option<&'static str> {
        match self {
            Guest::Refused => Some("of a refused module"),
            Guest::NotPaused => Some("of a module that is not paused"),
            Guest::Local(_) | Guest::Moved(_) => None,
        }
    }
}

/// What a directive ended with, unless it failed.
enum Done {
    Run,
    Skipped(String),
}

struct Script<'e> {
    engines: &'e Engines,
    mode: Mode,
    store: Store<()>,
    spectest: HashMap<String, Extern>,
    guests: Vec<Guest>,
    uses: Vec<Uses>,
    ids: HashMap<String, usize>,
    registered: HashMap<String, usize>,
    definitions: HashMap<String, Vec<u8>>,
    last_definition: Vec<u8>,
    report: Report,
}

/// Runs a script.
pub fn run(engines: &Engines, mode: Mode, text: &str) -> Result<Report> {
    let mut lexer = wast::lexer::Lexer::new(text);
    lexer.allow_confusing_unicode(true);
    let buffer = wast::parser::ParseBuffer::new_with_lexer(lexer)?;
    let directives = wast::parser::parse::<Wast<'_>>(&buffer)?.directives;
    let mut store = Store::new(&engines.plain, ());
    let spectest = spectest::items(&mut store)?.into_iter().collect();
    let uses = plan(&directives);
    let mut script = Script {
        engines,
        mode,
        store,
        spectest,
        guests: vec![],
        uses,
        ids: HashMap::new(),
        registered: HashMap::new(),
        definitions: HashMap::new(),
        last_definition: vec![],
        report: Report::default(),
    };
    for directive in directives {
        let line = directive.span().linecol_in(text).0 + 1;
        match script.directive(directive) {
            Ok(Done::Run) => script.report.run += 1,
            Ok(Done::Skipped(why)) => *script.report.skipped.entry(why).or_default() += 1,
            Err(error) => script.report.failures.push(format!("line {line}: {error:#}")),
        }
    }
    Ok(script.report)
}

impl<'e> Script<'e> {
    fn directive(&mut self, directive: WastDirective<'_>) -> Result<Done> {
        use WastDirective::*;
        match directive {
            Module(mut module) => {
                let id = module.name();
                let wasm = module.encode()?;
                self.instance(&wasm, id)
            }
            ModuleDefinition(mut module) => {
                let wasm = module.encode()?;
                if let Some(id) = module.name() {
                    self.definitions.insert(id.name().to_string(), wasm.clone());
                }
                self.last_definition = wasm;
                Ok(Done::Run)
            }
            ModuleInstance { instance, module, .. } => {
                let wasm = match module {
                    Some(id) => self.definitions.get(id.name()).context("no such definition")?.clone(),
                    None => self.last_definition.clone(),
                };
                self.instance(&wasm, instance)
            }
            Register { name, module, .. } => {
                let at = self.find(module)?;
                self.registered.insert(name.to_string(), at);
                Ok(Done::Run)
            }
            Invoke(invoke) => {
                self.expect(&WastExecute::Invoke(invoke), Pauses::All, &mut |_, outcome| match outcome {
                    Outcome::Returned(_) => Ok(()),
                    Outcome::Failed(failure) => bail!("{}", failure.message),
                })
            }
            AssertReturn { exec, results, .. } => self.assert_return(&exec, &results),
            AssertTrap { exec, message, .. } => self.assert_trap(exec, Pauses::All, message),
            AssertExhaustion { call, message, .. } => {
                self.assert_trap(WastExecute::Invoke(call), Pauses::AtFirst, message)
            }
            AssertException { exec, .. } => {
                self.expect(&exec, Pauses::All, &mut |_, outcome| match outcome {
                    Outcome::Failed(Failure { thrown: true, .. }) => Ok(()),
                    Outcome::Failed(failure) => bail!("no exception, but {}", failure.message),
                    Outcome::Returned(_) => bail!("no exception"),
                })
            }
            AssertInvalid { .. } | AssertMalformed { .. } | AssertUnlinkable { .. }
                if self.mode != Mode::Plain =>
            {
                Ok(Done::Skipped("nothing that runs: not paused".into()))
            }
            AssertInvalid { module, .. } | AssertMalformed { module, .. } => self.assert_refused(module),
            AssertInvalidCustom { .. } | AssertMalformedCustom { .. } => {
                Ok(Done::Skipped("about custom sections, which are not part of the program".into()))
            }
            AssertUnlinkable { module, .. } => self.assert_unlinkable(module),
            AssertSuspension { .. } => bail!("suspensions are not supported"),
            Thread(_) | Wait { .. } => Ok(Done::Skipped("needs threads".into())),
        }
    }

    fn find(&self, id: Option<wast::token::Id<'_>>) -> Result<usize> {
        match id {
            Some(id) => self.ids.get(id.name()).copied().with_context(|| format!("no {}", id.name())),
            None => self.guests.len().checked_sub(1).context("no module yet"),
        }
    }

    // ---- instances ----------------------------------------------------------------------------

    fn instance(&mut self, wasm: &[u8], id: Option<wast::token::Id<'_>>) -> Result<Done> {
        let at = self.guests.len();
        if let Some(id) = id {
            self.ids.insert(id.name().to_string(), at);
        }
        // Whatever happens, the instances count as the plan counts them.
        self.guests.push(Guest::Refused);
        let uses = self.uses[at].clone();
        let (guest, done) = match self.instantiate(wasm, &uses)? {
            Instantiated::Ready(guest) => (guest, Done::Run),
            Instantiated::Refused(why) => (Guest::Refused, Done::Skipped(why)),
            Instantiated::NotPaused(why) => (Guest::NotPaused, Done::Skipped(why.to_string())),
            Instantiated::Failed(failure) => bail!("cannot be instantiated: {}", failure.message),
        };
        self.guests[at] = guest;
        Ok(done)
    }

    fn instantiate(&mut self, wasm: &[u8], uses: &Uses) -> Result<Instantiated> {
        let (rewritten, machine) = match self.rewrite(wasm) {
            Ok(found) => found,
            Err(Refusal::Unsupported { what, .. }) => {
                self.forget_exporters(wasm)?;
                return Ok(Instantiated::Refused(format!("refused: {what}")));
            }
            Err(other) => return Err(other.into()),
        };
        if self.mode == Mode::Plain {
            return self.local(&rewritten.wasm, false);
        }
        let imports = Imports::of(wasm)?;
        let unpaused = match () {
            () if imports.others || uses.registered => Some("linked with other modules: not paused"),
            () if uses.foreign => Some("given references of the host: not paused"),
            () if !imports.has_points(&rewritten) => Some("no suspension points: not paused"),
            () => None,
        };
        if let Some(why) = unpaused {
            return Ok(Instantiated::NotPaused(why));
        }
        if self.mode == Mode::Moved {
            let why = match () {
                () if imports.state => Some("state of the host imported: paused in place only"),
                () if uses.read || uses.references => Some("read from outside: paused in place only"),
                () if rewritten.meta.has_start => Some("start function: paused in place only"),
                () => None,
            };
            if let Some(why) = why {
                self.less(why);
            } else if let Some(moved) = Moved::new(machine, wasm)? {
                return Ok(Instantiated::Ready(Guest::Moved(Box::new(moved))));
            }
        }
        self.local(&rewritten.wasm, true)
    }

    /// With the newest cost model by which it has suspension points, or else the newest, and the engine for that.
    fn rewrite(&self, wasm: &[u8]) -> Result<(Instrumented, &'e machine::Engine), Refusal> {
        let of = |engine: &'e machine::Engine| {
            Ok((instrument::instrument_with(wasm, &engine.settings().rewrite)?, engine))
        };
        let (newest, older) = self.engines.machine.split_first().expect("a cost model");
        let newest = of(newest)?;
        let Ok(imports) = Imports::of(wasm) else { return Ok(newest) };
        let is_enough = |found: &(Instrumented, _)| self.mode == Mode::Plain || imports.has_points(&found.0);
        if is_enough(&newest) {
            return Ok(newest);
        }
        let older = older.iter().map(of).find(|found| found.as_ref().is_ok_and(is_enough));
        older.unwrap_or(Ok(newest))
    }

    /// A module that is refused would have changed what it imports: nothing more is known of that.
    fn forget_exporters(&mut self, wasm: &[u8]) -> Result<()> {
        for name in Imports::of(wasm)?.from {
            if let Some(&at) = self.registered.get(&name) {
                self.guests[at] = Guest::Refused;
            }
        }
        Ok(())
    }

    fn less(&mut self, why: &str) {
        *self.report.skipped.entry(why.to_string()).or_default() += 1;
    }

    fn local(&mut self, rewritten: &[u8], pausing: bool) -> Result<Instantiated> {
        let module = Module::new(&self.engines.plain, rewritten)?;
        let mut imports = vec![];
        for import in module.imports() {
            match self.import(import.module(), import.name())? {
                Imported::Item(item) => imports.push(item),
                Imported::Refused(why) => return Ok(Instantiated::Refused(why)),
                Imported::Unknown => {
                    let message = format!("unknown import {}.{}", import.module(), import.name());
                    return Ok(Instantiated::Failed(Failure { message, thrown: false }));
                }
            }
        }
        let instance = match wasmtime::Instance::new(&mut self.store, &module, &imports) {
            Ok(instance) => instance,
            Err(error) => return Ok(Instantiated::Failed(error.into())),
        };
        let local = Local::new(&mut self.store, instance, pausing)?;
        if let Some(start) = instance.get_func(&mut self.store, &format!("{PREFIX}start")) {
            self.fill()?;
            local.fill(&mut self.store)?;
            let outcome = local.call(&mut self.store, start, &[], Pauses::All, &mut self.report.pauses)?;
            if let Outcome::Failed(failure) = outcome {
                return Ok(Instantiated::Failed(failure));
            }
        }
        Ok(Instantiated::Ready(Guest::Local(local)))
    }

    fn import(&mut self, module: &str, name: &str) -> Result<Imported> {
        if module == "spectest" {
            if name == "shared_memory" {
                return Ok(Imported::Refused("needs a shared memory".into()));
            }
            return Ok(self.spectest.get(name).map_or(Imported::Unknown, |e| Imported::Item(e.clone())));
        }
        Ok(match self.registered.get(module).map(|&at| &self.guests[at]) {
            None => Imported::Unknown,
            Some(Guest::Refused) => Imported::Refused("linked to a refused module".into()),
            Some(Guest::Moved(_) | Guest::NotPaused) => {
                bail!("the plan did not see that {module} is registered")
            }
            Some(Guest::Local(local)) => match local.instance.get_export(&mut self.store, name) {
                Some(item) => Imported::Item(item),
                None => Imported::Unknown,
            },
        })
    }

    /// Fuel for all guests of this store: they may call each other.
    fn fill(&mut self) -> Result<()> {
        for guest in &self.guests {
            if let Guest::Local(local) = guest {
                local.fill(&mut self.store)?;
            }
        }
        Ok(())
    }

    // ---- execution ----------------------------------------------------------------------------

    fn expect(
        &mut self,
        exec: &WastExecute<'_>,
        policy: Pauses,
        check: &mut dyn FnMut(&mut Store<()>, Outcome) -> Result<()>,
    ) -> Result<Done> {
        let outcome = match exec {
            WastExecute::Invoke(invoke) => self.invoke(invoke, policy)?,
            WastExecute::Get { module, global, .. } => self.get(*module, global)?,
            WastExecute::Wat(_) => bail!("a module gives no results"),
        };
        match outcome {
            Ok(outcome) => check(&mut self.store, outcome).map(|()| Done::Run),
            Err(why) => Ok(Done::Skipped(why)),
        }
    }

    fn invoke(&mut self, invoke: &WastInvoke<'_>, policy: Pauses) -> Result<Result<Outcome, String>> {
        let at = self.find(invoke.module)?;
        if let Some(why) = self.guests[at].absent() {
            return Ok(Err(why.into()));
        }
        let args: Vec<Val> =
            invoke.args.iter().map(|a| values::argument(&mut self.store, a)).collect::<Result<_>>()?;
        self.fill()?;
        let pauses = &mut self.report.pauses;
        match &mut self.guests[at] {
            Guest::Refused | Guest::NotPaused => unreachable!("absent, as seen above"),
            Guest::Moved(moved) => moved.call(invoke.name, &args, policy, pauses).map(Ok),
            Guest::Local(local) => {
                let func = local.instance.get_func(&mut self.store, invoke.name);
                let func = func.with_context(|| format!("no function {}", invoke.name))?;
                local.call(&mut self.store, func, &args, policy, pauses).map(Ok)
            }
        }
    }

    fn get(&mut self, id: Option<wast::token::Id<'_>>, name: &str) -> Result<Result<Outcome, String>> {
        let at = self.find(id)?;
        if let Some(why) = self.guests[at].absent() {
            return Ok(Err(why.into()));
        }
        match &self.guests[at] {
            Guest::Refused | Guest::NotPaused => unreachable!("absent, as seen above"),
            Guest::Moved(_) => bail!("the plan did not see that a global is read"),
            Guest::Local(local) => {
                let global = local.instance.get_global(&mut self.store, name).context("no such global")?;
                Ok(Ok(Outcome::Returned(vec![global.get(&mut self.store)])))
            }
        }
    }

    fn assert_return(&mut self, exec: &WastExecute<'_>, results: &[WastRet<'_>]) -> Result<Done> {
        self.expect(exec, Pauses::All, &mut |store, outcome| match outcome {
            Outcome::Returned(found) => values::all_match(store, &found, results),
            Outcome::Failed(failure) => bail!("{}", failure.message),
        })
    }

    fn assert_trap(&mut self, exec: WastExecute<'_>, policy: Pauses, message: &str) -> Result<Done> {
        let WastExecute::Wat(mut wat) = exec else {
            return self.expect(&exec, policy, &mut |_, outcome| match outcome {
                Outcome::Returned(found) => bail!("returned {found:?} instead of a trap: {message}"),
                Outcome::Failed(failure) => same_trap(&failure.message, message),
            });
        };
        let uses = Uses { read: true, ..Uses::default() };
        match self.instantiate(&wat.encode()?, &uses)? {
            Instantiated::Failed(failure) => same_trap(&failure.message, message).map(|()| Done::Run),
            Instantiated::Refused(why) => Ok(Done::Skipped(why)),
            Instantiated::NotPaused(why) => Ok(Done::Skipped(why.into())),
            Instantiated::Ready(_) => bail!("instantiated instead of a trap: {message}"),
        }
    }

    /// What is not a valid module must be refused; text that is not even text has no bytes.
    fn assert_refused(&mut self, mut module: QuoteWat<'_>) -> Result<Done> {
        let Ok(wasm) = module.encode() else {
            return Ok(Done::Skipped("malformed text: no module to refuse".into()));
        };
        match instrument::instrument(&wasm) {
            Err(_) => Ok(Done::Run),
            Ok(_) if Module::validate(&self.engines.plain, &wasm).is_ok() => {
                Ok(Done::Skipped("valid by a later version of the standard".into()))
            }
            Ok(_) => bail!("accepted, and is not valid"),
        }
    }

    fn assert_unlinkable(&mut self, mut module: Wat<'_>) -> Result<Done> {
        match self.instantiate(&module.encode()?, &Uses { read: true, ..Uses::default() })? {
            Instantiated::Failed(_) => Ok(Done::Run),
            Instantiated::Refused(why) => Ok(Done::Skipped(why)),
            Instantiated::NotPaused(why) => Ok(Done::Skipped(why.into())),
            Instantiated::Ready(_) => bail!("linked, and must not"),
        }
    }
}

#[allow(clippy::large_enum_variant)] // as above
enum Instantiated {
    Ready(Guest),
    Refused(String),
    NotPaused(&'static str),
    Failed(Failure),
}

enum Imported {
    Item(Extern),
    Refused(String),
    Unknown,
}

/// What a module imports.
struct Imports {
    /// From other modules than the host's.
    others: bool,
    /// Memories, tables or globals.
    state: bool,
    /// Number of functions.
    funcs: u32,
    /// Number of functions that are not imported.
    bodies: u32,
    /// Names of the modules.
    from: Vec<String>,
}

impl Imports {
    fn of(wasm: &[u8]) -> Result<Self> {
        let mut found = Imports { others: false, state: false, funcs: 0, bodies: 0, from: vec![] };
        for payload in wasmparser::Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            if let wasmparser::Payload::FunctionSection(section) = &payload {
                found.bodies = section.count();
            }
            if let wasmparser::Payload::ImportSection(section) = payload {
                for import in section.into_imports() {
                    let import = import?;
                    found.others |= import.module != "spectest";
                    found.from.push(import.module.to_string());
                    let func = matches!(import.ty, wasmparser::TypeRef::Func(_));
                    found.funcs += u32::from(func);
                    found.state |= !func;
                }
            }
        }
        Ok(found)
    }

    /// Whether one of the module's own functions has suspension points.
    fn has_points(&self, rewritten: &Instrumented) -> bool {
        (self.funcs..self.funcs + self.bodies).any(|func| rewritten.meta.frames.of(func).is_some())
    }
}

/// Whether the engine's words are those of the script. Some of the script's say more than the engine does.
fn same_trap(found: &str, expected: &str) -> Result<()> {
    let same = found.contains(expected)
        || expected.contains("uninitialized element") && found.contains("uninitialized element")
        || expected.contains("null function")
            && (found.contains("uninitialized element") || found.contains("null reference"))
        || expected.contains("call stack exhausted") && found.contains("call stack exhausted");
    ensure!(same, "trapped with `{found}` instead of `{expected}`");
    Ok(())
}
