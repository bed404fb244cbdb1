"""Fine-tuning, models and their promotion, golden queries."""
