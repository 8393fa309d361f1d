//! What the validator lets pass and we do not: objects of the garbage collector have no portable identity.

use wasmparser::{BlockType, Operator, ValType};

use super::module::gc_refused;
use super::refusal::{Item, Refusal};
use super::scan::Scanner;

impl Scanner<'_, '_> {
    /// Objects of the garbage collector are refused where code would make or touch one.
    pub(super) fn refuse(&self, op: &Operator<'_>, offset: u64) -> Result<(), Refusal> {
        use Operator::*;
        match op {
            StructNew { .. }
            | StructNewDefault { .. }
            | ArrayNew { .. }
            | ArrayNewDefault { .. }
            | ArrayNewFixed { .. }
            | ArrayNewData { .. }
            | ArrayNewElem { .. }
            | RefI31
            | AnyConvertExtern
            | ExternConvertAny
            | RefEq => Err(gc_refused(Item::new("function", self.func), offset)),
            RefTestNonNull { hty }
            | RefTestNullable { hty }
            | RefCastNonNull { hty }
            | RefCastNullable { hty }
            | RefNull { hty } => {
                let ty = wasmparser::RefType::new(true, *hty);
                ty.map_or(Ok(()), |ty| {
                    self.module.value_type("function", self.func, ValType::Ref(ty), offset)
                })
            }
            BrOnCast { from_ref_type, to_ref_type, .. } | BrOnCastFail { from_ref_type, to_ref_type, .. } => {
                [*from_ref_type, *to_ref_type].into_iter().try_for_each(|ty| {
                    self.module.value_type("function", self.func, ValType::Ref(ty), offset)
                })
            }
            Block { blockty } | Loop { blockty } | If { blockty } => self.refuse_types(blockty, offset),
            TryTable { try_table } => self.refuse_types(&try_table.ty, offset),
            _ => Ok(()),
        }
    }

    fn refuse_types(&self, ty: &BlockType, offset: u64) -> Result<(), Refusal> {
        let (params, results) = Self::signature(self.module, ty);
        for &ty in params.iter().chain(results) {
            self.module.value_type("function", self.func, ty, offset)?;
        }
        Ok(())
    }
}
