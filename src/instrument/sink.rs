//! Writes instructions, as `wasm_encoder::InstructionSink` does, to the same bytes. The few that the rewriter emits for each value of each
//! frame are inlined here and write short indexes at once; the others are passed on.

use super::frame::Kind;
use wasm_encoder::{BlockType, Catch, Encode, HeapType, Ieee32, Ieee64, InstructionSink, MemArg, RefType};

/// Appends a number in LEB128: most have one byte.
#[inline]
pub fn leb(code: &mut Vec<u8>, value: u64) {
    match value {
        0..0x80 => code.push(value as u8),
        0x80..0x4000 => code.extend_from_slice(&[value as u8 | 0x80, (value >> 7) as u8]),
        _ => value.encode(code),
    }
}

/// Appends so many of the bytes. Few of them by appending sixteen, which is one instruction or two, and taking back what is too much.
#[inline]
pub fn append(code: &mut Vec<u8>, bytes: &[u8], len: usize) {
    match bytes.first_chunk::<16>() {
        Some(chunk) if len <= 16 => {
            let end = code.len() + len;
            code.extend_from_slice(chunk);
            code.truncate(end);
        }
        _ => code.extend_from_slice(&bytes[..len]),
    }
}

/// Appends instructions to a body.
pub struct Sink<'c> {
    code: &'c mut Vec<u8>,
}

/// A few instructions.
#[derive(Default)]
struct Piece {
    bytes: [u8; 32],
    len: usize,
}

impl Piece {
    #[inline(always)]
    fn byte(&mut self, byte: u8) -> &mut Self {
        self.bytes[self.len] = byte;
        self.len += 1;
        self
    }

    #[inline(always)]
    fn leb(&mut self, mut value: u32) -> &mut Self {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8)
    }

    #[inline(always)]
    fn memarg(&mut self, at: MemArg) -> &mut Self {
        match at.memory_index {
            0 => self.byte(at.align as u8),
            index => self.byte(at.align as u8 | 0x40).leb(index),
        };
        self.leb(at.offset as u32)
    }
}

/// Instructions of one byte.
macro_rules! single {
    ($($name:ident $opcode:literal)*) => {
        $( #[inline] pub fn $name(&mut self) -> &mut Self {
            self.code.push($opcode);
            self
        } )*
    };
}

/// Instructions with an index.
macro_rules! indexed {
    ($($name:ident $opcode:literal)*) => {
        $( #[inline] pub fn $name(&mut self, index: u32) -> &mut Self {
            self.indexed($opcode, index)
        } )*
    };
}

/// Accesses to memory.
macro_rules! access {
    ($($name:ident $opcode:literal)*) => {
        $( #[inline] pub fn $name(&mut self, at: MemArg) -> &mut Self {
            self.code.push($opcode);
            self.memarg(at)
        } )*
    };
}

/// Instructions that are rare.
macro_rules! passed_on {
    ($($name:ident($($arg:ident: $ty:ty),*))*) => {
        $( pub fn $name(&mut self, $($arg: $ty),*) -> &mut Self {
            InstructionSink::new(self.code).$name($($arg),*);
            self
        } )*
    };
}

impl<'c> Sink<'c> {
    pub fn new(code: &'c mut Vec<u8>) -> Self {
        Self { code }
    }

    #[inline]
    fn indexed(&mut self, opcode: u8, index: u32) -> &mut Self {
        match index {
            0..0x80 => self.code.extend_from_slice(&[opcode, index as u8]),
            0x80..0x4000 => {
                self.code.extend_from_slice(&[opcode, index as u8 | 0x80, (index >> 7) as u8]);
            }
            _ => {
                self.code.push(opcode);
                index.encode(self.code);
            }
        }
        self
    }

    #[inline]
    fn memarg(&mut self, at: MemArg) -> &mut Self {
        if at.memory_index > 0 && at.memory_index < 0x80 && at.align < 0x40 {
            self.code.extend_from_slice(&[at.align as u8 | 0x40, at.memory_index as u8]);
            leb(self.code, at.offset);
        } else {
            at.encode(self.code);
        }
        self
    }

    #[inline]
    fn typed(&mut self, opcode: u8, ty: BlockType) -> &mut Self {
        match ty {
            BlockType::Empty => self.code.extend_from_slice(&[opcode, 0x40]),
            _ => {
                self.code.push(opcode);
                ty.encode(self.code);
            }
        }
        self
    }

    #[inline]
    pub fn block(&mut self, ty: BlockType) -> &mut Self {
        self.typed(0x02, ty)
    }

    #[inline]
    pub fn loop_(&mut self, ty: BlockType) -> &mut Self {
        self.typed(0x03, ty)
    }

    #[inline]
    pub fn if_(&mut self, ty: BlockType) -> &mut Self {
        self.typed(0x04, ty)
    }

    #[inline]
    pub fn i32_const(&mut self, value: i32) -> &mut Self {
        // Signed LEB128 has the same bytes for a number of either width.
        self.constant(0x41, value.into())
    }

    #[inline]
    pub fn i64_const(&mut self, value: i64) -> &mut Self {
        self.constant(0x42, value)
    }

    #[inline]
    fn constant(&mut self, opcode: u8, value: i64) -> &mut Self {
        match value {
            -0x40..0x40 => self.code.extend_from_slice(&[opcode, value as u8 & 0x7f]),
            _ => {
                self.code.push(opcode);
                value.encode(self.code);
            }
        }
        self
    }

    pub fn br_table(&mut self, targets: &[u32], default: u32) -> &mut Self {
        self.code.push(0x0e);
        leb(self.code, targets.len() as u64);
        targets.iter().chain([&default]).for_each(|&target| leb(self.code, u64::from(target)));
        self
    }

    /// Stores a local of this kind in the frame whose address is in the local `frame`.
    pub fn save(&mut self, frame: u32, local: u32, kind: Kind, at: MemArg) {
        let opcode = match kind {
            Kind::I64 => 0x37,
            Kind::F32 => 0x38,
            Kind::F64 => 0x39,
            _ => 0x36,
        };
        // Nearly all of them.
        if let (0..0x80, 0..0x80, 1..0x80, 0..0x80) = (frame, local, at.memory_index, at.offset) {
            let (flags, memory) = (at.align as u8 | 0x40, at.memory_index as u8);
            let bytes = [0x20, frame as u8, 0x20, local as u8, opcode, flags, memory, at.offset as u8];
            self.code.extend_from_slice(&bytes);
            return;
        }
        let mut piece = Piece::default();
        piece.byte(0x20).leb(frame).byte(0x20).leb(local).byte(opcode).memarg(at);
        self.piece(&piece);
    }

    /// Loads it.
    pub fn restore(&mut self, frame: u32, local: u32, kind: Kind, at: MemArg) {
        let opcode = match kind {
            Kind::I64 => 0x29,
            Kind::F32 => 0x2a,
            Kind::F64 => 0x2b,
            _ => 0x28,
        };
        if let (0..0x80, 0..0x80, 1..0x80, 0..0x80) = (frame, local, at.memory_index, at.offset) {
            let (flags, memory) = (at.align as u8 | 0x40, at.memory_index as u8);
            let bytes = [0x20, frame as u8, opcode, flags, memory, at.offset as u8, 0x21, local as u8];
            self.code.extend_from_slice(&bytes);
            return;
        }
        let mut piece = Piece::default();
        piece.byte(0x20).leb(frame).byte(opcode).memarg(at).byte(0x21).leb(local);
        self.piece(&piece);
    }

    /// Copies all of the bytes, which is one instruction or two, and takes back what is too much.
    #[inline]
    fn piece(&mut self, piece: &Piece) {
        let end = self.code.len() + piece.len;
        self.code.extend_from_slice(&piece.bytes);
        self.code.truncate(end);
    }

    single! {
        unreachable 0x00 else_ 0x05 end 0x0b return_ 0x0f drop 0x1a select 0x1b ref_is_null 0xd1 ref_as_non_null 0xd4
        i32_eqz 0x45 i32_eq 0x46 i32_ne 0x47 i32_lt_u 0x49 i32_ge_u 0x4f i32_and 0x71 i64_eq 0x51 i64_lt_s 0x53 i64_lt_u 0x54 i64_le_u 0x58 i64_ge_s 0x59 i32_add 0x6a i32_sub 0x6b i64_add 0x7c i64_sub 0x7d
        i64_mul 0x7e i64_and 0x83 i64_or 0x84 i64_shl 0x86 i64_shr_u 0x88 i64_rotr 0x8a i32_wrap_i64 0xa7 i64_extend_i32_u 0xad f32_reinterpret_i32 0xbe f64_reinterpret_i64 0xbf
    }

    indexed! {
        br 0x0c br_if 0x0d call 0x10 return_call 0x12 local_get 0x20 local_set 0x21 local_tee 0x22 global_get 0x23
        global_set 0x24 table_get 0x25 table_set 0x26 ref_func 0xd2 br_on_null 0xd5 br_on_non_null 0xd6
    }

    access! {
        i32_load 0x28 i64_load 0x29 f32_load 0x2a f64_load 0x2b
        i32_store 0x36 i64_store 0x37 f32_store 0x38 f64_store 0x39
    }

    passed_on! {
        v128_load(at: MemArg)
        v128_store(at: MemArg)
        f32_const(value: Ieee32)
        f64_const(value: Ieee64)
        v128_const(value: i128)
        i32x4_splat()
        try_table(ty: BlockType, catches: Vec<Catch>)
        throw(tag: u32)
        call_indirect(table: u32, ty: u32)
        return_call_indirect(table: u32, ty: u32)
        table_size(table: u32)
        table_grow(table: u32)
        ref_null(ty: HeapType)
        ref_cast_nullable(ty: HeapType)
        br_on_cast(depth: u32, from: RefType, to: RefType)
        br_on_cast_fail(depth: u32, from: RefType, to: RefType)
        data_drop(segment: u32)
        elem_drop(segment: u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_writes_what_the_encoder_writes() {
        let numbers = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0x3fff, 0x4000, 0x1f_ffff, 0x20_0000, u32::MAX];
        for n in numbers {
            let (mut ours, mut theirs) = (vec![], vec![]);
            let at = MemArg { offset: u64::from(n), align: 0, memory_index: n % 0x100 };
            let ty = BlockType::FunctionType(n);
            let signed = [n as i32, (n as i32).wrapping_neg()];
            let mut sink = Sink::new(&mut ours);
            sink.local_get(n)
                .call(n)
                .br_table(&[n, 0], n)
                .i32_load(at)
                .i64_store(at)
                .block(ty)
                .if_(BlockType::Empty);
            for v in signed {
                sink.i32_const(v).i64_const(i64::from(v) << 20).i64_const(v.into());
            }
            let mut sink = InstructionSink::new(&mut theirs);
            sink.local_get(n)
                .call(n)
                .br_table([n, 0], n)
                .i32_load(at)
                .i64_store(at)
                .block(ty)
                .if_(BlockType::Empty);
            for v in signed {
                sink.i32_const(v).i64_const(i64::from(v) << 20).i64_const(v.into());
            }
            leb(&mut ours, n.into());
            u64::from(n).encode(&mut theirs);
            assert_eq!(ours, theirs);
        }
        for kind in [Kind::I32, Kind::I64, Kind::F32, Kind::F64] {
            for (memory_index, n) in [(0, 3), (1, 3), (1, 126), (1, 127), (1, 200), (300, 70_000)] {
                let (mut ours, mut theirs, mut one) = (vec![], vec![], vec![]);
                let at = MemArg { offset: u64::from(n), align: 0, memory_index };
                Sink::new(&mut ours).save(n, n + 1, kind, at);
                Sink::new(&mut ours).restore(n, n + 1, kind, at);
                super::super::code::store(&mut Sink::new(&mut one), kind, at);
                InstructionSink::new(&mut theirs).local_get(n).local_get(n + 1);
                theirs.append(&mut one);
                InstructionSink::new(&mut theirs).local_get(n);
                super::super::code::load(&mut Sink::new(&mut one), kind, at);
                theirs.append(&mut one);
                InstructionSink::new(&mut theirs).local_set(n + 1);
                assert_eq!(ours, theirs);
            }
        }
        let (mut ours, mut theirs) = (vec![], vec![]);
        Sink::new(&mut ours)
            .unreachable()
            .else_()
            .end()
            .return_()
            .drop()
            .select()
            .ref_is_null()
            .ref_as_non_null()
            .i32_eqz();
        Sink::new(&mut ours)
            .i32_eq()
            .i32_lt_u()
            .i32_ge_u()
            .i32_and()
            .i64_eq()
            .i64_lt_s()
            .i64_lt_u()
            .i64_shl()
            .i64_ge_s()
            .i32_add()
            .i32_sub()
            .i64_add()
            .i64_sub()
            .i64_mul()
            .i64_and()
            .i64_or()
            .i64_shr_u();
        Sink::new(&mut ours).i32_wrap_i64().i64_extend_i32_u().f32_reinterpret_i32().f64_reinterpret_i64();
        let mut sink = InstructionSink::new(&mut theirs);
        sink.unreachable().else_().end().return_().drop().select().ref_is_null().ref_as_non_null().i32_eqz();
        sink.i32_eq()
            .i32_lt_u()
            .i32_ge_u()
            .i32_and()
            .i64_eq()
            .i64_lt_s()
            .i64_lt_u()
            .i64_shl()
            .i64_ge_s()
            .i32_add()
            .i32_sub()
            .i64_add()
            .i64_sub()
            .i64_mul()
            .i64_and()
            .i64_or()
            .i64_shr_u();
        sink.i32_wrap_i64().i64_extend_i32_u().f32_reinterpret_i32().f64_reinterpret_i64();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn as_many_bytes_are_appended_as_are_wanted() {
        let bytes: Vec<u8> = (0..40).collect();
        for (from, len) in [(0, 0), (0, 1), (3, 16), (3, 17), (24, 16), (25, 15), (39, 1), (40, 0), (0, 40)] {
            let mut code = vec![7];
            append(&mut code, &bytes[from..], len);
            assert_eq!(code, [&[7], &bytes[from..from + len]].concat());
        }
    }
}
