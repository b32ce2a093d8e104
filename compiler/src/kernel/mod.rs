//! The kernel IR, the lowering of fused regions into it, the memory plan and the schedule.
