"""What a plausible user is."""

import itertools
import random
import re
from collections import Counter
from pathlib import Path

import faker.providers.person
import pytest
from faker import Faker
from faker.config import AVAILABLE_LOCALES

import generator
from generator import BLOCK_SIZE, FIRST_BLOCK, LAST_BLOCK, User, Users
from settings import SettingsError, check_locale

PEOPLE = Path(faker.providers.person.__file__).parent
# Faker takes the names of another locale for one without a file. An older name is left out here:
# Faker warns of it.
OWN = {each.parent.name for each in PEOPLE.glob("*/__init__.py")} - {"fr_QC"}


def first(count: int, users: Users) -> list[User]:
    return list(itertools.islice(users, count))


def test_ids_run_on_and_fit() -> None:
    """The ids of a run count up from the start of a block. Also the last block has room for a run
    of a billion users, and for one that sends ten thousand a second for a week.
    """
    ids = [user.user_id for user in first(1_000, Users(4))]

    assert ids == list(range(ids[0], ids[0] + 1_000))
    assert ids[0] % BLOCK_SIZE == 1
    assert LAST_BLOCK * BLOCK_SIZE + 10_000 * 7 * 86_400 <= 2**53 - 1


def test_different_users_do_not_share_a_block() -> None:
    """Other seeds, locales and ages draw different blocks, from the whole range of them."""
    kinds = [("en_US", "population")] * 200 + [("de_DE", "population"), ("en_US", "campus")]
    blocks = [next(Users(seed % 200, *kind)).user_id // 10**9 for seed, kind in enumerate(kinds)]

    assert len(set(blocks)) == 202
    assert min(blocks) < FIRST_BLOCK + (LAST_BLOCK - FIRST_BLOCK) * 0.1
    assert max(blocks) > FIRST_BLOCK + (LAST_BLOCK - FIRST_BLOCK) * 0.9


@pytest.mark.parametrize("locale", sorted(OWN))
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


@pytest.mark.parametrize("locale", sorted({*AVAILABLE_LOCALES} - {"fr_QC"}))
def test_a_locale_has_names_or_is_refused(locale: str) -> None:
    """The sentence names locales that can be used: those of the language, and of the country."""
    if locale in OWN:
        check_locale(locale)
        return
    with pytest.raises(SettingsError) as caught:
        check_locale(locale)
    names = rf"Faker has no names for {locale}; it has some for ([\w, ]+)"
    match = re.fullmatch(rf"SIMULATION_LOCALE \(--locale\): {names}", str(caught.value))
    assert match
    near = set(match[1].split(", "))
    language, _, country = locale.partition("_")
    same = {each for each in OWN if each.startswith(f"{language}_")}
    same |= {each for each in OWN if country and each.endswith(f"_{country}")}
    assert same <= near <= OWN


@pytest.mark.parametrize(
    ("locale", "near"),
    [
        ("en-us", "en, en_GB, .*en_US"),
        ("EN_US", "en, en_GB, .*en_US"),
        ("pt-br", "pt_BR, pt_PT"),
        ("de", "de_AT, de_CH, de_DE, de_LI, de_LU"),
        ("el_CY", "el_GR"),
        ("it_CH", "de_CH, fr_CH, it_IT"),
        ("lb_LU", "de_LU"),
        ("Klingon", "en_US"),
        ("-", "en_US"),
    ],
)
def test_a_near_spelling_gets_the_right_ones_named(locale: str, near: str) -> None:
    """A locale in another spelling, a language alone, and one that does not exist."""
    with pytest.raises(SettingsError, match=f"no names for {locale}; it has some for {near}$"):
        check_locale(locale)


@pytest.mark.parametrize("locale", ["en_US", "de_DE", "ja_JP", "ru_RU", "pl_PL"])
def test_names_are_as_frequent_as_faker_has_them(locale: str) -> None:
    """The words of names come as often as those of Faker itself, to within sampling error."""
    count = 6_000
    name = generator.names(random.Random(10), locale)
    theirs_faker = Faker(locale)
    theirs_faker.seed_instance(11)
    ours, theirs = (
        Counter(word for _ in range(count) for word in make().split())
        for make in (name, theirs_faker.name)
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


def test_a_new_id_depends_on_the_person_and_then_on_chance() -> None:
    """The second id of a person is the same in each run with the seed, in whatever order the ids
    turned out to be taken; the third is another one each time. The next people stay the same.
    """
    users, others, calm = Users(1), Users(1), Users(1)
    taken = first(100, users)
    moved = [users.renumbered(user) for user in taken]
    again = [others.renumbered(user) for user in reversed(first(100, others))]
    third = [users.renumbered(user) for user in moved + again]

    assert moved == again[::-1]
    assert len({user.user_id for user in taken + moved + third}) == 400
    for some in (moved, third):
        assert [user[1:] for user in some[:100]] == [user[1:] for user in taken]
        assert all(10**15 <= user.user_id < 2**53 for user in some)
    assert next(users) == first(101, calm)[-1]
