//! The table of diagnostic codes. A code never changes its meaning; new ones are added at the end of
//! their group: 01 syntax, 03 names, 04 types and stages, 05 parts and states, 06 config, 07 checkpoint.

macro_rules! codes {
    ($($number:literal $name:ident $doc:literal;)*) => {
        /// A stable diagnostic code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $doc] $name,)*
        }

        impl Code {
            /// Every code, ascending.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// The number that follows the letter: 301 for `E0301`.
            pub fn number(self) -> u16 {
                match self { $(Code::$name => $number,)* }
            }

            /// What the code stands for, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$name => $doc,)* }
            }
        }
    };
}

codes! {
    101 Syntax "The text does not follow the grammar.";
    102 Bracket "A bracket is never closed, never opened, or closed by another kind.";
    103 OpenText "A text literal does not end on its line.";
    104 TooDeep "More than 64 brackets inside one another, or an expression too long to follow.";
    105 Misplaced "A statement that belongs elsewhere: `return` outside a block, `entry` inside one, ...";
    106 Template "A `{...}` inside a message or a path is not an expression.";
    107 Number "A number that no integer of 128 bits or finite double holds.";
    108 TooLarge "A text above the size limit of its kind, or one that is not UTF-8.";
    201 MissingFile "A graph, library or config that cannot be found or read.";
    301 UnknownName "A name that is not declared where it is used.";
    302 DuplicateName "Two declarations of one name in one scope.";
    303 BranchNotTaken "A name that only a branch not taken, or not in every step, makes.";
    304 Cycle "Names, defaults, presets, imports or blocks that need each other.";
    305 NotABlock "Something is called or made a part that is no block, operation or weight.";
    306 UnusedName "A parameter, local, weight or state that nothing reads.";
    307 Rebound "A name of model level, a part or a weight is assigned.";
    308 UnknownLibrary "An imported library does not exist.";
    309 UnknownArgument "A named argument that the callee does not have, or one given twice.";
    310 UnknownPreset "A preset that no graph declares.";
    311 UnknownMember "A member (`.name`) that the object, part or entry does not have.";
    401 ShapeMismatch "Operands of an operator do not have fitting shapes.";
    402 ArgumentType "An argument does not have the type that its parameter declares.";
    403 ElementType "Elements that do not fit: a conversion must be written.";
    404 BranchType "A dynamic branch or loop changes the type of a name.";
    405 NotStatic "A value that must be known before running is not.";
    406 ArgumentCount "Too many or too few arguments, results or names.";
    407 Unguarded "A value that may be absent is read without a guard.";
    408 ReturnType "What a block returns is not what it declares.";
    409 NotInferable "A static parameter can neither be read off an argument nor has a default.";
    410 StaticValue "A static value of the wrong kind or outside its range.";
    411 Arithmetic "Static arithmetic fails: division by zero, overflow, a bad index.";
    412 NoArm "No arm of a static `match` fits.";
    413 WrongStage "A statement or operation that its stage does not have.";
    414 StateType "A value assigned to a state does not have the state's type.";
    415 TooBig "More than a graph may cost (section 13): too large, too many, too deep, or a row too wide for an exact total.";
    416 Encoding "An encoding with parameters that are unknown, missing or out of range.";
    501 NeedsPart "A block with weights or states is called without a part.";
    502 UnusedPart "A part that nobody calls.";
    503 StateTwice "A part with state runs, or a state is pushed, twice in one step.";
    504 DuplicatePath "Two weights, states or parts have the same path.";
    505 EntryForm "An entry, output, input or start that breaks the runtime's conventions.";
    506 IndexedState "An array of parts with state is indexed by a vector.";
    507 GrowingState "A growing state is used as only a fixed one may be, or the reverse; entries of different number meet, or are lost.";
    508 NoMeaning "Values or states are put together in a way that has no meaning.";
    601 UnknownKey "A config key that the graph does not declare.";
    602 ValueNotAllowed "A config value outside its type, range or allowed values.";
    603 CheckFailed "A `check` of the graph does not hold.";
    604 Claim "A `warn` of the graph holds not.";
    605 UnreadKey "A declared config key that nothing reads.";
    606 MissingKey "A required config key is absent.";
    607 DuplicateKey "A key that occurs twice in one object.";
    608 Json "The config is not JSON.";
    609 WarnedKey "A key that the graph accepts with a warning.";
    610 PresetValue "A preset sets something that is not a constant.";
    701 MissingTensor "A tensor that the graph reads is not in the checkpoint.";
    702 TensorShape "A tensor has another shape or form than the graph needs.";
    703 LeftOver "A tensor of the checkpoint that nothing reads.";
    704 Checkpoint "The checkpoint cannot be read.";
    705 TensorClash "Renaming gives two tensors the same name.";
    706 LoadCheck "A check on the weights does not hold.";
    707 NotTaken "Something of the checkpoint that is left aside and might have been meant.";
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn numbers_ascend_and_are_unique() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0].number() < pair[1].number()));
    }
}
