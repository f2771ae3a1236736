"""Studies on top of training: benchmark, lesson, learning-rate finder."""
