"""How much came in the last seconds, kept in steps so that its price does not depend on it."""


class Window:
    """A sum over the time that ends now.

    It slides by whole steps: between one step less than all of its time and all of it counts.

    Args:
        seconds: Of its time.
        steps: In how many parts that is kept.
    """

    def __init__(self, seconds: float, steps: int) -> None:
        self._step_s = seconds / steps
        self._numbers = [-1] * steps
        self._sums = [0.0] * steps

    def add(self, amount: float, at: float) -> None:
        """So much came at this moment; one that is long past counts no more."""
        number = self._number(at)
        index = number % len(self._sums)
        if self._numbers[index] < number:
            self._numbers[index] = number
            self._sums[index] = 0.0
        if self._numbers[index] == number:
            self._sums[index] += amount

    def spread(self, amount: float, since: float, until: float) -> None:
        """So much came evenly between two moments; what lies before the window is left out."""
        whole_s = until - since
        begin = max(since, until - self._step_s * len(self._sums))
        parts = min(len(self._sums), 1 + int((until - begin) / self._step_s))
        if whole_s <= 0.0:
            self.add(amount, until)
            return
        part_s = (until - begin) / parts
        for part in range(parts):
            self.add(amount * (part_s / whole_s), begin + (part + 0.5) * part_s)

    def total(self, now: float) -> float:
        """What came in its time."""
        last = self._number(now)
        return sum(
            amount
            for number, amount in zip(self._numbers, self._sums, strict=True)
            if last - len(self._sums) < number <= last
        )

    def per_s(self, now: float) -> float:
        """The same for each second."""
        return self.total(now) / self.covered_s(now)

    def covered_s(self, now: float) -> float:
        """The time whose sum `total` is."""
        steps_before = len(self._sums) - 1
        return steps_before * self._step_s + now % self._step_s

    def _number(self, at: float) -> int:
        return int(at // self._step_s)
