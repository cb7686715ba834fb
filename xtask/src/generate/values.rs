//! Values of constant expressions.

use syn::Expr;

use super::constants::Item;

/// The value of a constant: a number, or milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Number(u128),
    Milliseconds(u128),
}

/// The value of an expression; none if it is not one of numbers, durations and other constants of the file.
pub(super) fn value(expr: &Expr, all: &[Item<'_>]) -> Option<Value> {
    match expr {
        Expr::Lit(literal) => match &literal.lit {
            syn::Lit::Int(number) => Some(Value::Number(number.base10_parse().ok()?)),
            _ => None,
        },
        Expr::Paren(inner) => value(&inner.expr, all),
        Expr::Cast(inner) => value(&inner.expr, all),
        Expr::Binary(binary) => binary_value(binary, all),
        Expr::Path(path) => {
            let name = path.path.segments.last()?.ident.to_string();
            if name == "MIN" {
                return Some(Value::Number(1));
            }
            all.iter().find(|item| *item.ident == name).and_then(|item| value(item.expr, all))
        }
        Expr::Call(call) => {
            let Expr::Path(function) = &*call.func else { return None };
            let Value::Number(count) = value(call.args.first()?, all)? else { return None };
            let unit = match function.path.segments.last()?.ident.to_string().as_str() {
                "from_millis" => 1,
                "from_secs" => 1_000,
                "from_mins" => 60_000,
                "from_hours" => 3_600_000,
                _ => return None,
            };
            Some(Value::Milliseconds(count * unit))
        }
        Expr::MethodCall(call) if call.method == "saturating_add" => {
            match (value(&call.receiver, all)?, value(call.args.first()?, all)?) {
                (Value::Number(left), Value::Number(right)) => Some(Value::Number(left + right)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn binary_value(binary: &syn::ExprBinary, all: &[Item<'_>]) -> Option<Value> {
    let (left, right) = (value(&binary.left, all)?, value(&binary.right, all)?);
    match (&binary.op, left, right) {
        (syn::BinOp::Mul(_), Value::Number(left), Value::Number(right)) => Some(Value::Number(left * right)),
        (syn::BinOp::Mul(_), Value::Milliseconds(time), Value::Number(count)) => {
            Some(Value::Milliseconds(time * count))
        }
        (syn::BinOp::Add(_), Value::Number(left), Value::Number(right)) => Some(Value::Number(left + right)),
        (syn::BinOp::Sub(_), Value::Number(left), Value::Number(right)) => {
            left.checked_sub(right).map(Value::Number)
        }
        (syn::BinOp::Shl(_), Value::Number(left), Value::Number(right)) => {
            left.checked_shl(u32::try_from(right).ok()?).map(Value::Number)
        }
        _ => None,
    }
}

/// A value for people. A number counts bytes if it is written as a product with 1024.
pub(super) fn shown(value: &Value, expr: &Expr) -> String {
    match *value {
        Value::Milliseconds(time) => {
            let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
            let unit = units.into_iter().find(|(length, _)| time % length == 0 && time >= *length);
            let (length, unit) = unit.unwrap_or((1, "ms"));
            format!("{} {unit}", time / length)
        }
        Value::Number(number) if is_bytes(expr) => {
            let units = [
                (1 << 50, "PiB"),
                (1 << 40, "TiB"),
                (1 << 30, "GiB"),
                (1 << 20, "MiB"),
                (1 << 10, "KiB"),
                (1, "bytes"),
            ];
            let unit = units.into_iter().find(|(size, _)| number % size == 0 && number >= *size);
            let (size, unit) = unit.unwrap_or((1, "bytes"));
            format!("{} {unit}", number / size)
        }
        Value::Number(number) => grouped(number),
    }
}

fn is_bytes(expr: &Expr) -> bool {
    match expr {
        Expr::Binary(binary) => {
            let is_1024 = |expr: &Expr| match expr {
                Expr::Lit(literal) => {
                    matches!(&literal.lit, syn::Lit::Int(int) if int.base10_digits() == "1024")
                }
                _ => false,
            };
            let sides = [&*binary.left, &*binary.right];
            matches!(binary.op, syn::BinOp::Shl(_))
                || sides.into_iter().any(|side| is_1024(side) || is_bytes(side))
        }
        Expr::Paren(inner) => is_bytes(&inner.expr),
        Expr::Cast(inner) => is_bytes(&inner.expr),
        Expr::Path(path) => {
            path.path.segments.last().is_some_and(|last| last.ident == "MIB" || last.ident == "GIB")
        }
        _ => false,
    }
}

/// A number with commas between thousands.
fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
