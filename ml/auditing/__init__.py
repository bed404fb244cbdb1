"""Looking at content for signs of abuse and fabrication: detectors run in a limited child process.

`Examiner.examine` gives what each detector found; `fusion` makes a verdict of it without mixing facts and estimates.
"""
