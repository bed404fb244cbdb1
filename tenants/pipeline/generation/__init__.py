"""The job that makes what was asked for in words, the policy on its prompt and files, and how they are stored."""
