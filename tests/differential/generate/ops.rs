//! Constants, operators, and instructions on memories and tables.

use wasm_encoder::{HeapType, MemArg};

use super::body::Body;
use super::{EXN, TABLE, Ty};

/// Addresses are mostly below this.
const REACH: i32 = 0xff;

impl Body<'_> {
    /// A constant: for references, null or a function.
    pub fn constant(&mut self, ty: Ty) {
        let number = self.rng().number();
        match ty {
            Ty::I32 => {
                self.sink().i32_const(number as i32);
            }
            Ty::I64 => {
                self.sink().i64_const(number as i64);
            }
            Ty::F32 => {
                self.sink().f32_const((number as i32 as f32 / 8.0).into());
            }
            Ty::F64 => {
                self.sink().f64_const((number as i64 as f64 / 16.0).into());
            }
            Ty::V128 => {
                let high = self.rng().next();
                self.sink().v128_const(i128::from(high) << 64 | i128::from(number));
            }
            Ty::Func if number & 1 == 0 => {
                self.sink().ref_null(HeapType::FUNC);
            }
            Ty::Func => {
                let funcs = self.shape.funcs.len();
                let func = self.rng().below(funcs) as u32;
                self.sink().ref_func(func);
            }
            Ty::Typed(t) if number & 1 == 0 => {
                self.sink().ref_null(HeapType::Concrete(t));
            }
            Ty::Typed(t) | Ty::NonNull(t) => {
                let func = self.shape.own_func_of(t);
                self.sink().ref_func(func);
            }
            Ty::Exn => {
                self.sink().ref_null(EXN);
            }
            Ty::Extern => {
                self.sink().ref_null(HeapType::EXTERN);
            }
        }
    }

    /// An operator that gives the type.
    pub fn operator(&mut self, ty: Ty) {
        match ty {
            Ty::I32 => self.i32_operator(),
            Ty::I64 => self.i64_operator(),
            Ty::F32 => self.f32_operator(),
            Ty::F64 => self.f64_operator(),
            Ty::V128 => self.v128_operator(),
            Ty::Func => {
                self.expr(Ty::I32);
                self.sink().i32_const(TABLE as i32 - 1).i32_and().table_get(1);
            }
            other => self.leaf(other),
        }
    }

    fn i32_operator(&mut self) {
        match self.rng().below(16) {
            0..6 => {
                self.exprs(&[Ty::I32, Ty::I32]);
                match self.rng().below(8) {
                    0 | 1 => self.sink().i32_add(),
                    2 => self.sink().i32_sub(),
                    3 => self.sink().i32_mul(),
                    4 => self.sink().i32_xor(),
                    5 => self.sink().i32_shl(),
                    6 => self.sink().i32_lt_s(),
                    _ => self.sink().i32_rotl(),
                };
            }
            6 => {
                self.exprs(&[Ty::I32, Ty::I32]);
                if !self.rng().one_in(8) {
                    self.sink().i32_const(1).i32_or();
                }
                self.sink().i32_div_u();
            }
            7 => {
                self.exprs(&[Ty::I64, Ty::I64]);
                self.sink().i64_gt_u();
            }
            8 => {
                self.exprs(&[Ty::F64, Ty::F64]);
                self.sink().f64_le();
            }
            9 => {
                self.expr(Ty::I64);
                self.sink().i32_wrap_i64();
            }
            10 => {
                self.expr(Ty::F64);
                if self.rng().one_in(10) {
                    self.sink().i32_trunc_f64_s();
                } else {
                    self.sink().i32_trunc_sat_f64_s();
                };
            }
            11 => {
                self.expr(Ty::V128);
                self.sink().i32x4_extract_lane(2);
            }
            12 => {
                let ty = self.rng().pick(&[Ty::Func, Ty::Exn, Ty::Typed(0), Ty::Extern]);
                self.expr(ty);
                self.sink().ref_is_null();
            }
            13 => {
                let memory = self.address();
                self.sink().i32_load(at(memory, 3));
            }
            14 => {
                self.expr(Ty::I32);
                self.sink().i32_const(1).i32_and().memory_grow(0);
            }
            _ if !self.shape.atomics => self.leaf(Ty::I32),
            _ => {
                self.expr(Ty::I32);
                self.sink().i32_const(0xfc).i32_and();
                self.expr(Ty::I32);
                self.sink().i32_atomic_rmw_add(MemArg { offset: 4, align: 2, memory_index: 0 });
            }
        }
    }

    fn i64_operator(&mut self) {
        match self.rng().below(8) {
            0..4 => {
                self.exprs(&[Ty::I64, Ty::I64]);
                match self.rng().below(5) {
                    0 => self.sink().i64_add(),
                    1 => self.sink().i64_mul(),
                    2 => self.sink().i64_xor(),
                    3 => self.sink().i64_shr_s(),
                    _ => self.sink().i64_sub(),
                };
            }
            4 => {
                self.expr(Ty::I32);
                self.sink().i64_extend_i32_s();
            }
            5 => {
                self.expr(Ty::F64);
                self.sink().i64_reinterpret_f64();
            }
            6 => {
                self.sink().memory_size(1);
            }
            _ => {
                let memory = self.address();
                self.sink().i64_load16_s(at(memory, 9));
            }
        }
    }

    fn f32_operator(&mut self) {
        match self.rng().below(5) {
            0 | 1 => {
                self.exprs(&[Ty::F32, Ty::F32]);
                if self.rng().one_in(2) {
                    self.sink().f32_mul();
                } else {
                    self.sink().f32_div();
                };
            }
            2 => {
                self.expr(Ty::F64);
                self.sink().f32_demote_f64();
            }
            3 => {
                self.expr(Ty::I64);
                self.sink().f32_convert_i64_u();
            }
            _ => {
                let memory = self.address();
                self.sink().f32_load(at(memory, 0));
            }
        }
    }

    fn f64_operator(&mut self) {
        match self.rng().below(5) {
            0 | 1 => {
                self.exprs(&[Ty::F64, Ty::F64]);
                if self.rng().one_in(2) {
                    self.sink().f64_sub();
                } else {
                    self.sink().f64_max();
                };
            }
            2 => {
                self.expr(Ty::F64);
                self.sink().f64_sqrt();
            }
            3 => {
                self.expr(Ty::V128);
                self.sink().f64x2_extract_lane(1);
            }
            _ => {
                self.expr(Ty::I32);
                self.sink().f64_convert_i32_s();
            }
        }
    }

    fn v128_operator(&mut self) {
        match self.rng().below(7) {
            0 => {
                self.exprs(&[Ty::V128, Ty::V128]);
                self.sink().i32x4_add();
            }
            1 => {
                self.exprs(&[Ty::V128, Ty::V128]);
                self.sink().f32x4_mul();
            }
            2 => {
                self.expr(Ty::I64);
                self.sink().i64x2_splat();
            }
            3 => {
                self.exprs(&[Ty::V128, Ty::V128]);
                self.sink().i8x16_swizzle();
            }
            4 => {
                self.exprs(&[Ty::V128, Ty::V128, Ty::V128]);
                self.sink().f64x2_relaxed_madd();
            }
            5 => {
                self.exprs(&[Ty::V128, Ty::F32]);
                self.sink().f32x4_replace_lane(3);
            }
            _ => {
                let memory = self.address();
                self.sink().v128_load(at(memory, 1));
            }
        }
    }

    /// Leaves an address, and says of which memory.
    fn address(&mut self) -> u32 {
        let memory = u32::from(self.rng().one_in(3));
        let ty = if memory == 1 { Ty::I64 } else { Ty::I32 };
        self.expr(ty);
        let trap = self.rng().one_in(60);
        match ty {
            _ if trap => {}
            Ty::I64 => {
                self.sink().i64_const(i64::from(REACH)).i64_and();
            }
            _ => {
                self.sink().i32_const(REACH).i32_and();
            }
        }
        memory
    }

    pub fn store(&mut self) {
        let memory = self.address();
        let ty = self.rng().pick(&[Ty::I32, Ty::I64, Ty::F32, Ty::F64, Ty::V128]);
        self.expr(ty);
        match ty {
            Ty::I32 => self.sink().i32_store(at(memory, 5)),
            Ty::I64 => self.sink().i64_store32(at(memory, 0)),
            Ty::F32 => self.sink().f32_store(at(memory, 8)),
            Ty::F64 => self.sink().f64_store(at(memory, 16)),
            _ => self.sink().v128_store(at(memory, 64)),
        };
    }

    /// Instructions on ranges of memories and tables, and on segments.
    pub fn bulk(&mut self) {
        match self.rng().below(10) {
            0 => {
                self.expr(Ty::I32);
                self.sink().i32_const(REACH).i32_and();
                self.expr(Ty::I32);
                self.sink().i32_const(9).memory_fill(0);
            }
            1 => {
                self.expr(Ty::I64);
                self.sink().i64_const(i64::from(REACH)).i64_and();
                self.expr(Ty::I32);
                self.sink().i32_const(REACH).i32_and().i32_const(17).memory_copy(1, 0);
            }
            2 => {
                // Traps once the segment is dropped, unless nothing is copied.
                self.sink().i32_const(70).i32_const(3);
                self.leaf(Ty::I32);
                self.sink().i32_const(1).i32_and().memory_init(0, 1);
            }
            3 => {
                self.sink().data_drop(1);
            }
            4 => {
                self.sink().i32_const(2).i32_const(0);
                self.leaf(Ty::I32);
                self.sink().i32_const(1).i32_and().table_init(1, 2);
            }
            5 => {
                self.sink().elem_drop(2);
            }
            6 => {
                self.expr(Ty::Func);
                self.sink().i32_const(1).table_grow(1).drop();
            }
            7 => {
                self.sink().i32_const(9);
                self.expr(Ty::Func);
                self.sink().i32_const(3).table_fill(1);
            }
            8 => {
                self.sink().i32_const(8).i32_const(0).i32_const(6).table_copy(1, 0);
            }
            _ => {
                self.expr(Ty::I32);
                self.sink().i32_const(TABLE as i32 - 1).i32_and();
                self.expr(Ty::Func);
                self.sink().table_set(1);
            }
        }
    }
}

/// An unaligned access.
fn at(memory_index: u32, offset: u64) -> MemArg {
    MemArg { offset, align: 0, memory_index }
}
