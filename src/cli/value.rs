//! Arguments of a function that is called from the command line.

use wasm_ckpt::Value;
use wasm_ckpt::machine::{FuncType, ValType};

/// An argument that does not fit the function.
#[derive(Debug, thiserror::Error)]
pub enum BadArgument {
    /// Too many or too few.
    #[error("`{function}` takes {expected} arguments, and {given} are given")]
    Count {
        /// The function.
        function: String,
        /// How many it takes.
        expected: usize,
        /// How many there are.
        given: usize,
        /// Its type.
        types: String,
    },
    /// Not a value of the type.
    #[error("argument {nth} of `{function}` must be {what}, and `{text}` is none")]
    Value {
        /// Its number, from 1.
        nth: usize,
        /// The function.
        function: String,
        /// The type, in words.
        what: String,
        /// What was given.
        text: String,
        /// The function's type.
        types: String,
    },
}

impl BadArgument {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let (Self::Count { function, types, .. } | Self::Value { function, types, .. }) = self;
        format!("call it as `{function}{types}`")
    }
}

/// The values of the arguments of a function of this type.
pub fn parse_all(function: &str, ty: &FuncType, given: &[String]) -> Result<Vec<Value>, BadArgument> {
    let names: Vec<_> = ty.params().map(|p| format!(" <{p}>")).collect();
    let (function, types) = (function.to_string(), names.concat());
    let expected = ty.params().len();
    if expected != given.len() {
        return Err(BadArgument::Count { function, expected, given: given.len(), types });
    }
    let mut values = vec![];
    for (nth, (ty, text)) in ty.params().zip(given).enumerate() {
        values.push(parse(&ty, text).ok_or_else(|| BadArgument::Value {
            nth: nth + 1,
            function: function.clone(),
            what: words(&ty),
            text: text.clone(),
            types: types.clone(),
        })?);
    }
    Ok(values)
}

fn words(ty: &ValType) -> String {
    match ty {
        ValType::I32 => "an i32 (-2147483648 to 4294967295, or 0x…)".to_string(),
        ValType::I64 => "an i64 (a whole number of 64 bits, or 0x…)".to_string(),
        ValType::F32 => "an f32 (such as 1.5, -2e3, inf, nan)".to_string(),
        ValType::F64 => "an f64 (such as 1.5, -2e3, inf, nan)".to_string(),
        ValType::V128 => "a v128 (0x and up to 32 hex digits)".to_string(),
        ValType::Ref(_) => format!("null, as nothing else can be given for a {ty}"),
    }
}

fn parse(ty: &ValType, text: &str) -> Option<Value> {
    Some(match ty {
        ValType::I32 => {
            let number = integer(text)?;
            let fits = (i128::from(i32::MIN)..=i128::from(u32::MAX)).contains(&number);
            Value::I32(fits.then_some(number as u32)?)
        }
        ValType::I64 => {
            let number = integer(text)?;
            let fits = (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number);
            Value::I64(fits.then_some(number as u64)?)
        }
        ValType::F32 => Value::F32(text.parse::<f32>().ok()?.to_bits()),
        ValType::F64 => Value::F64(text.parse::<f64>().ok()?.to_bits()),
        ValType::V128 => Value::V128(u128::from_str_radix(text.strip_prefix("0x")?, 16).ok()?),
        ValType::Ref(ty) if text == "null" && ty.is_nullable() => Value::Null,
        ValType::Ref(_) => return None,
    })
}

fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let number = match digits.strip_prefix("0x") {
        Some(hex) => i128::from(u64::from_str_radix(hex, 16).ok()?),
        // `parse` would take a sign of its own.
        None if digits.starts_with(|c: char| c.is_ascii_digit()) => digits.parse().ok()?,
        None => return None,
    };
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_all_forms_and_at_their_limits() {
        let i32 = |text| parse(&ValType::I32, text);
        assert_eq!(i32("-1"), Some(Value::I32(u32::MAX)));
        assert_eq!(i32("4294967295"), Some(Value::I32(u32::MAX)));
        assert_eq!(i32("0x10"), Some(Value::I32(16)));
        for bad in ["", "-", "--1", "+1", "4294967296", "-2147483649", "1.5", "0x", "seven", "1 "] {
            assert_eq!(i32(bad), None, "{bad}");
        }
        assert_eq!(parse(&ValType::I64, "-9223372036854775808"), Some(Value::I64(1 << 63)));
        assert_eq!(parse(&ValType::I64, "18446744073709551616"), None);
        assert_eq!(parse(&ValType::F64, "-2e3"), Some(Value::F64((-2000.0_f64).to_bits())));
        assert_eq!(parse(&ValType::V128, "0xff"), Some(Value::V128(255)));
    }
}
