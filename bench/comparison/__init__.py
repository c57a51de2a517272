"""What bench/evoformer_cuda.py is made of.

A worker process measures and sends what it finds as it goes (worker.py, measure.py, exact.py, contenders.py). The
parent starts it again where a contender breaks the device or hangs (runs.py), compares (table.py) and writes the page
and its plot (page.py, plot.py). shapes.py says what is measured.
"""
