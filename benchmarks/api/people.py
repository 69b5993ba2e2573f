"""Many users for benchmarks, always the same ones, with realistic names."""

from collections.abc import Iterator

FIRST = (
    "Ada Alan Barbara Bjarne Carl Donald Edsger Emmy Frances Grace Guido Hedy Ingrid James Joan"
    " Katherine Kenneth Lynn Margaret Marie Niklaus Ole Radia Richard Robin Rosalind Shafi"
    " Sophie Tim Tony Ursula Vint Whitfield Xiaoyun Yukihiro Zoe"
)
LAST = (
    "Allen Anderson Baker Becker Carter Castillo Dubois Edwards Fischer Garcia Goldberg Hansen"
    " Hoffmann Ivanov Jackson Johnson Kowalski Lamport Larsen Martinez Meyer Nakamura Nguyen"
    " Okafor Papadopoulos Petrov Ramirez Robinson Sanchez Schneider Silva Thompson Torres Weber"
    " Williams Yamamoto Zhang"
)


def users(count: int) -> Iterator[tuple[int, str, int]]:
    """Yield (id, name, age) for the ids from 0; each name is a new string, as in a real store."""
    firsts, lasts = FIRST.split(), LAST.split()
    for user_id in range(count):
        first, last = firsts[user_id % len(firsts)], lasts[user_id // len(firsts) % len(lasts)]
        yield user_id, f"{first} {last}", user_id * 7 % 96
