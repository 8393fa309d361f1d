//! Locals of our own: for operands that must not lie on the stack at a label, for addresses, for fuel.

use wasm_encoder::BlockType;
use wasmparser::ValType;

use super::super::code::zeros;
use super::super::hidden::{encoded, nullable};
use super::Emitter;

impl Emitter<'_, '_, '_> {
    pub(in super::super) fn temp(&mut self, height: usize, ty: ValType) -> u32 {
        let ty = nullable(ty);
        if let Some(local) = self.temps.find(height, ty) {
            return local;
        }
        let local = self.new_local(ty);
        self.temps.add(height, ty, local);
        local
    }

    pub(in super::super) fn new_local(&mut self, ty: ValType) -> u32 {
        self.temp_types.push(ty);
        (self.scan.locals.len() + self.temp_types.len()) as u32 - 1
    }

    /// The first of two i32 locals.
    pub(in super::super) fn scratch(&mut self) -> u32 {
        let (base, types) = (self.scan.locals.len() as u32, &mut self.temp_types);
        *self.scratch.get_or_insert_with(|| {
            types.extend([ValType::I32; 2]);
            base + types.len() as u32 - 2
        })
    }

    /// The first of two i64 locals.
    pub(in super::super) fn bulk_locals(&mut self) -> u32 {
        let (base, types) = (self.scan.locals.len() as u32, &mut self.temp_types);
        *self.bulk_locals.get_or_insert_with(|| {
            types.extend([ValType::I64; 2]);
            base + types.len() as u32 - 2
        })
    }

    /// Moves operands from the stack to locals; the first stands at `height`.
    pub(in super::super) fn spill(&mut self, height: usize, types: &[ValType]) {
        for (i, &ty) in types.iter().enumerate().rev() {
            let temp = self.temp(height + i, ty);
            self.sink().local_set(temp);
        }
    }

    /// Brings operands back from their locals.
    pub(in super::super) fn reload(&mut self, height: usize, types: &[ValType]) {
        for (i, &ty) in types.iter().enumerate() {
            let temp = self.temp(height + i, ty);
            self.get_local(temp, ty);
        }
    }

    fn get_local(&mut self, local: u32, ty: ValType) {
        self.sink().local_get(local);
        if !ty.is_defaultable() {
            self.sink().ref_as_non_null();
        }
    }

    /// A local that is null while the function is being rebuilt, where its type must not be: then a value
    /// that nobody reads.
    pub(in super::super) fn get_or_zero(&mut self, local: u32, ty: ValType) {
        if ty.is_defaultable() {
            self.sink().local_get(local);
            return;
        }
        self.sink().local_get(local).ref_is_null().if_(BlockType::Result(encoded(ty)));
        zeros(&mut self.code, self.cx, &[ty]);
        self.sink().else_().local_get(local).ref_as_non_null().end();
    }
}
