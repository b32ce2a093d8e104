//! Host functions without a host. A stream of the runtime answers no questions in mid-step, and the language says what
//! that means: the answer is absent. Said to the passes as constants, so that what would have used it folds away.

use crate::ir::{Data, Literal, Module, NodeId, Op, Region, Type};

/// Makes every answer of a host absent.
pub fn absent(module: &mut Module) {
    for entry in &mut module.entries {
        region(&mut entry.body);
    }
}

fn region(body: &mut Region) {
    let nodes: Vec<NodeId> = body.nodes().collect();
    for id in nodes {
        for nested in Region::nested_mut(body.op_mut(id)) {
            region(nested);
        }
        let node = body.node(id);
        if !matches!(node.op, Op::Host(_)) {
            continue;
        }
        let (results, origin) = (node.results.clone(), node.origin);
        // An answer of a kind that no constant has stays a question, which the back end refuses.
        let answers: Option<Vec<Literal>> = results.iter().map(|&v| zeros(body.ty(v))).collect();
        let Some(answers) = answers else { continue };
        let place = body.nodes().position(|n| n == id).unwrap_or_default();
        for (result, literal) in results.into_iter().zip(answers) {
            let ty = literal.ty();
            let constant = body.insert(place, Op::Constant(literal), &[], vec![ty], origin);
            let value = body.node(constant).results[0];
            body.replace_uses(result, value);
        }
        body.remove(id);
    }
}

fn zeros(ty: &Type) -> Option<Literal> {
    let shape = ty.constant_shape()?;
    let data = Data::zeros(ty.elem, shape.iter().product())?;
    Some(Literal { shape, data: data.into() })
}
