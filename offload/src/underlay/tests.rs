//! The compiled program, run by the interpreter, against the evaluator; the plan, step by step; the hardware's whims.

mod convergence;
mod dice;
mod kernel;
mod model;
mod named;
mod random;
mod steps;
mod verdicts;
