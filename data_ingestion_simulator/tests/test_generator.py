"""What a plausible user is."""

import itertools
import random
from collections import Counter

import pytest
from faker import Faker
from faker.config import AVAILABLE_LOCALES

import generator
from generator import BLOCK_SIZE, FIRST_BLOCK, LAST_BLOCK, User, Users


def first(count: int, users: Users) -> list[User]:
    return list(itertools.islice(users, count))


def test_ids_run_on_and_fit() -> None:
    """The ids of a run count up within a block, and even the last id of the last block fits."""
    ids = [user.user_id for user in first(1_000, Users(4))]

    assert ids == list(range(ids[0], ids[0] + 1_000))
    assert ids[0] % BLOCK_SIZE == 1
    assert (LAST_BLOCK + 1) * BLOCK_SIZE - 1 <= 2**53 - 1


def test_different_users_do_not_share_a_block() -> None:
    """Other seeds, locales and ages draw different blocks, from the whole range of them."""
    kinds = [("en_US", "population")] * 200 + [("de_DE", "population"), ("en_US", "campus")]
    blocks = [next(Users(seed % 200, *kind)).user_id // 10**9 for seed, kind in enumerate(kinds)]

    assert len(set(blocks)) == 202
    assert min(blocks) < FIRST_BLOCK + (LAST_BLOCK - FIRST_BLOCK) * 0.1
    assert max(blocks) > FIRST_BLOCK + (LAST_BLOCK - FIRST_BLOCK) * 0.9


@pytest.mark.parametrize("locale", sorted(AVAILABLE_LOCALES))
def test_every_locale_has_names(locale: str) -> None:
    """Names of every locale keep within the contract, and are the same for the same seed."""
    users = first(200, Users(9, locale))

    assert users == first(200, Users(9, locale)) != first(200, Users(10, locale))
    assert len({user.name for user in users}) > 20
    for user in users:
        assert 10**15 <= user.user_id <= 2**53 - 1
        assert 1 <= len(user.name) <= 100
        assert user.name == user.name.strip()
        assert not set(user.name) & set("{}%\r\n\t")


@pytest.mark.parametrize("locale", ["en_US", "de_DE", "ja_JP", "ru_RU", "pl_PL"])
def test_names_are_as_frequent_as_faker_has_them(locale: str) -> None:
    """The words of names come as often as those of Faker itself, to within sampling error."""
    count = 6_000
    name = generator.names(random.Random(10), locale)
    faker = Faker(locale)
    faker.seed_instance(11)
    ours, theirs = (
        Counter(word for _ in range(count) for word in make().split())
        for make in (name, faker.name)
    )

    for word, times in theirs.most_common(20):
        assert abs(ours[word] - times) < 6 * (times + 1) ** 0.5, word


@pytest.mark.parametrize(
    ("ages", "youngest", "oldest", "shares"),
    [
        ("population", 0, 99, (0.256, 0.156, 0.497, 0.091)),
        ("uniform", 18, 80, (0.0, 0.111, 0.635, 0.254)),
        ("campus", 17, 70, (0.0, 0.7, 0.27, 0.03)),
    ],
)
def test_the_profiles_of_ages(
    ages: str, youngest: int, oldest: int, shares: tuple[float, ...]
) -> None:
    """Each profile has its range, and its share of four groups, to within two points."""
    drawn = Counter(user.age for user in first(20_000, Users(13, ages=ages)))
    groups = range(15), range(15, 25), range(25, 65), range(65, 100)

    assert (min(drawn), max(drawn)) == (youngest, oldest)
    found = [sum(drawn[age] for age in group) / 20_000 for group in groups]
    assert found == pytest.approx(shares, abs=0.02)


def test_a_block_is_left_once() -> None:
    """Many users whose ids are taken all get ids of the same new block; that one is left when
    an id in it is taken, too. The next people stay the same.
    """
    users, calm = Users(1), Users(1)
    taken = [next(users) for _ in range(100)]
    moved = [users.renumbered(user) for user in taken]
    again = users.renumbered(moved[-1])

    blocks = [{user.user_id // 10**9 for user in some} for some in (taken, moved, [again])]
    later = next(users)
    assert later.user_id == again.user_id + 1
    assert later[1:] == first(101, calm)[-1][1:]
    assert [len(block) for block in blocks] == [1, 1, 1]
    assert len(set.union(*blocks)) == 3
    assert len({user.user_id for user in moved}) == 100
    assert [user[1:] for user in moved] == [user[1:] for user in taken]
