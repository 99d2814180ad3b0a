//! Label selectors and node selector requirements: Kubernetes' types to the model's.

use std::collections::BTreeSet;

use everynode_model::{
    Labels, NodeSelectorTerm, Operator, Requirement, Selector, valid_label_value,
    valid_qualified_name,
};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::FieldPath;
use crate::check::Check;

/// What a label's key must look like, for people.
pub(crate) const KEY_RULE: &str = "must be at most 63 letters, digits, '-', '_' or '.', with a \
     letter or digit at both ends, after an optional DNS subdomain and '/'";
/// What a label's value must look like, for people.
pub(crate) const VALUE_RULE: &str = "must be empty or at most 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends";

/// `spec.selector` as the model has it. What [`check_selector`] refuses is left out.
pub(crate) fn selector(from: &LabelSelector) -> Selector {
    let labels: Labels = from.match_labels.clone().unwrap_or_default();
    let mut selector = Selector::from_labels(&labels);
    for expression in from.match_expressions.iter().flatten() {
        if let Some(operator) = label_operator(&expression.operator) {
            selector.0.push(requirement(&expression.key, operator, expression.values.as_deref()));
        }
    }
    selector
}

/// One alternative of a node affinity as the model has it. What [`check_term`] refuses is left out.
pub(crate) fn term(from: &core::NodeSelectorTerm) -> NodeSelectorTerm {
    let all = |from: &Option<Vec<core::NodeSelectorRequirement>>| {
        let one = |from: &core::NodeSelectorRequirement| {
            let operator = node_operator(&from.operator)?;
            Some(requirement(&from.key, operator, from.values.as_deref()))
        };
        from.iter().flatten().filter_map(one).collect()
    };
    NodeSelectorTerm {
        match_expressions: all(&from.match_expressions),
        match_fields: all(&from.match_fields),
    }
}

/// Checks keys and values of labels.
pub(crate) fn check_labels(check: &mut Check, path: &FieldPath, labels: Option<&Labels>) {
    for (key, value) in labels.into_iter().flatten() {
        if !valid_qualified_name(key) {
            check.invalid(path.key(key), key.as_str(), KEY_RULE);
        }
        if !valid_label_value(value) {
            check.invalid(path.key(key), value.as_str(), VALUE_RULE);
        }
    }
}

/// Checks a label selector's syntax.
pub(crate) fn check_selector(check: &mut Check, path: &FieldPath, selector: &LabelSelector) {
    check_labels(check, &path.field("matchLabels"), selector.match_labels.as_ref());
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.field("matchExpressions").index(index);
        check.one_of(
            path.field("operator"),
            &expression.operator,
            &["DoesNotExist", "Exists", "In", "NotIn"],
        );
        let operator = label_operator(&expression.operator);
        check_requirement(check, &path, &expression.key, operator, expression.values.as_deref());
    }
}

/// Checks one alternative of a node affinity.
pub(crate) fn check_term(check: &mut Check, path: &FieldPath, term: &core::NodeSelectorTerm) {
    for (index, expression) in term.match_expressions.iter().flatten().enumerate() {
        let path = path.field("matchExpressions").index(index);
        check.one_of(
            path.field("operator"),
            &expression.operator,
            &["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"],
        );
        let operator = node_operator(&expression.operator);
        check_requirement(check, &path, &expression.key, operator, expression.values.as_deref());
    }
    for (index, field) in term.match_fields.iter().flatten().enumerate() {
        let path = path.field("matchFields").index(index);
        check.one_of(path.field("key"), &field.key, &["metadata.name"]);
        check.one_of(path.field("operator"), &field.operator, &["In", "NotIn"]);
        if field.values.as_ref().is_none_or(|values| values.len() != 1) {
            check.required(path.field("values"), "must be one node's name");
        }
    }
}

fn check_requirement(
    check: &mut Check,
    path: &FieldPath,
    key: &str,
    operator: Option<Operator>,
    values: Option<&[String]>,
) {
    if !valid_qualified_name(key) {
        check.invalid(path.field("key"), key, KEY_RULE);
    }
    let values = values.unwrap_or_default();
    let at = path.field("values");
    match operator {
        Some(Operator::In | Operator::NotIn) if values.is_empty() => {
            check.required(at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        Some(Operator::Exists | Operator::DoesNotExist) if !values.is_empty() => {
            check.forbidden(
                at,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            );
        }
        Some(Operator::Gt | Operator::Lt) if !is_one_integer(values) => {
            check.required(at, "must be a single integer when `operator` is 'Gt' or 'Lt'");
        }
        Some(Operator::In | Operator::NotIn) => {
            for (index, value) in values.iter().enumerate() {
                if !valid_label_value(value) {
                    check.invalid(at.index(index), value.as_str(), VALUE_RULE);
                }
            }
        }
        _ => {}
    }
}

fn is_one_integer(values: &[String]) -> bool {
    matches!(values, [value] if value.parse::<i64>().is_ok())
}

fn requirement(key: &str, operator: Operator, values: Option<&[String]>) -> Requirement {
    let values: BTreeSet<String> = values.unwrap_or_default().iter().cloned().collect();
    Requirement { key: key.into(), operator, values }
}

fn label_operator(text: &str) -> Option<Operator> {
    node_operator(text).filter(|operator| !matches!(operator, Operator::Gt | Operator::Lt))
}

fn node_operator(text: &str) -> Option<Operator> {
    use Operator::{DoesNotExist, Exists, Gt, In, Lt, NotIn};
    [In, NotIn, Exists, DoesNotExist, Gt, Lt].into_iter().find(|operator| operator.as_str() == text)
}
