import numpy as np
import pytest

from gpunn.data.table import Column, Table, fill_missing, read_csv, read_rows
from gpunn.errors import DataError, FileError, GpunnError, OptionError
from tests.data.damage import mutations, written

# --- a table of numbers


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_with_any_separator_and_line_end(tmp_path, separator, end):
    lines = ["", "length,width,kind", "1,2.5,0", "", ' 3 ,"-4e-1",1', ",,", "5,6,2"]
    text = "".join(line.replace(",", separator) + end for line in lines)
    data = read_csv(written(tmp_path / "a.csv", text))
    np.testing.assert_array_equal(data.x, [[1, 2.5], [3, -0.4], [5, 6]])
    np.testing.assert_array_equal(data.y, [0, 1, 2])
    assert data.y.dtype == np.int64
    assert data.classes == ()


def test_csv_without_names_calls_its_columns_by_number(tmp_path):
    path = written(tmp_path / "a.csv", "1,2,3\n4,5,6")
    np.testing.assert_array_equal(read_csv(path).y, [3, 6])
    np.testing.assert_array_equal(read_csv(path, target="1").y, [1, 4])
    np.testing.assert_array_equal(read_csv(path, target="1").x, [[2, 3], [5, 6]])


@pytest.mark.parametrize("target", ["a", "two words", "c,d"])
def test_csv_target_is_found_by_its_name(tmp_path, target):
    names = ["a", "two words", "c,d"]
    path = written(tmp_path / "a.csv", '\ufeff a ,"two\n words","c,d"\r\n0,1,2\r\n')
    data = read_csv(path, target=target)
    assert data.y == names.index(target)
    np.testing.assert_array_equal(data.x, [[i for i in range(3) if i != names.index(target)]])


def test_csv_separators_within_quoted_names_do_not_count(tmp_path):
    data = read_csv(written(tmp_path / "a.csv", '"length, cm";"width, cm";"kind"\n1;2;3\n'))
    np.testing.assert_array_equal(data.x, [[1, 2]])


def test_csv_targets_of_text_are_classes_in_alphabetical_order(tmp_path):
    data = read_csv(written(tmp_path / "a.csv", 'x,animal\n1,dog\n2, "cat, tame"\n3, dog \n4,Zebra\n'))
    assert data.classes == ("Zebra", "cat, tame", "dog")
    np.testing.assert_array_equal(data.y, [2, 1, 2, 0])


def test_csv_targets_with_an_underscore_are_text(tmp_path):
    assert read_csv(written(tmp_path / "a.csv", "x,id\n1,1_1\n2,11\n")).classes == ("11", "1_1")


@pytest.mark.parametrize(
    ("cells", "expected"), [(("1.5", "2"), [1.5, 2.0]), (("1e300", "2"), [1e300, 2.0]), (("-3", "4.0"), [-3, 4])]
)
def test_csv_targets_that_are_numbers_keep_their_values(tmp_path, cells, expected):
    data = read_csv(written(tmp_path / "a.csv", "x,y\n" + "".join(f"1,{cell}\n" for cell in cells)))
    np.testing.assert_array_equal(data.y, expected)
    assert (data.y.dtype == np.int64) == (expected == [-3, 4])


LONG = "w" * 100_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n \n\n", "the file is empty"),
        ("a,b,c\n", "no rows below the names of the columns"),
        ("a\n1\n", "only one column, 'a'; expected features and a target, separated by , or ; or tab"),
        ("a|b\n1|2\n", "only one column, 'a|b'"),
        ("a,b,b\n1,2,3\n", "more than one column is called 'b'; the columns are a, b, b"),
        ("a,b\n1,2\n1,2,3\n", "line 3: 3 cells, expected 2 as in the first line; quote a cell with a sep"),
        ("a,b\n1,2\n\n1\n", "line 4: 1 cell, expected 2"),
        (
            "a,b\n1,2\n,3\n",
            "line 3: column 'a' is empty; remove the row or fill it in, or choose --missing mean or drop",
        ),
        ("a,b\n1,2\nn/A,3\n", "line 3: column 'a' holds 'n/A'; remove the row"),
        ("a,b,b,c\n1,2,3,4\n", "more than one column is called 'b'; the columns are a, b, b, c; rename one"),
        ("a,b\n1,2\n3, \n", "line 3: the target 'b' is missing; remove the row or fill it in"),
        ("a,b\n1,cat\n3,NaN\n", "line 3: the target 'b' is missing"),
        ("a,b\n1,2\n3,inf\n", "line 3: the target 'b' holds 'inf', expected a number; remove"),
        ("a,b\n1,2\nnan,2\n", "line 3: column 'a' holds 'nan'; remove the row or fill it in"),
        ("a,b\n-inf,2\n", "line 2: column 'a' holds '-inf', expected a number"),
        ("a,b\n1e300,2\n", r"line 2: column 'a' holds '1e300', expected a number up to 1e\+37; remove the row"),
        ("a,b,c\nx,y,1\n1,1,1\n1,1,1\n", "line 2: column 'a' holds 'x', .*--drop; look at 'b', too$"),
        ("who,a,y\n" + "".join(f"n{i},{'x' if i else i},{i % 2}\n" for i in range(11)), "'who' holds 11 .*--drop$"),
        (
            "who,a,y\n" + "".join(f"n{i},{i or 'x'},{i % 2}\n" for i in range(11)),
            "'who' holds 11 .*; look at 'a', too$",
        ),
        ("a,b\n1e999,2\n", "line 2: column 'a' holds '1e999', expected a number"),
        ("a,b\n1,2\nred,3\n", "line 3: column 'a' holds 'red', expected a number"),
        ("a,b\n1,1\n2_0,3\n", "line 3: column 'a' holds '2_0', expected a number"),
        ("a,b\n1,2\n" + LONG + ",3\n", r"line 3: column 'a' holds 'w{57}\.\.\.', expected a number"),
        (LONG + ",b\n1,2\nred,3\n", r"line 3: column 'w{57}\.\.\.' holds 'red'"),
        ('a,b\n"1\n",2\n"\n\n3",4\n\nred,5\n', "line 8: column 'a' holds 'red'"),
        ('a,b\r\n1,2\r\n"\r\nred",4\r\n', "line 3: column 'a' holds 'red'"),
        ("1,2\n3,\n", "line 2: the target '2' is missing"),
        (
            'a,b\n"3,5",1\n"4,5",2\n',
            "line 2: column 'a' holds '3,5', expected a number; write numbers with a decimal point",
        ),
        ('a,b\n1,"3,5"\n1,"-,5"\n', "line 2: the target 'b' holds '3,5', expected a number; write"),
    ],
)
def test_a_wrong_cell_of_a_csv_is_named_by_line_and_column(tmp_path, text, message):
    path = written(tmp_path / "a.csv", text)
    with pytest.raises(DataError, match=message) as error:
        read_csv(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300 + len(str(path))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("größe,y\n1,2\n".encode("latin-1"), "line 1: cannot be read as CSV: byte 0xf6 is not UTF-8; save the file as"),
        (b"a,b\n" + b"1,2\n" * 9_000 + b"caf\xe9,2\n", "line 9002: cannot be read as CSV: byte 0xe9 is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "byte 0xff is not UTF-8; save the file as UTF-8"),
        (b'a,b\n1,2\n"3,4\n', "line 3: cannot be read as CSV: .* look for a quote that is not closed"),
        (b'a,b\n"1"2,3\n', "line 2: cannot be read as CSV: .* look for a quote"),
        (b"a,b\n" + b"9" * 200_000 + b",1\n", "line 2: cannot be read as CSV: field larger"),
    ],
)
def test_a_file_that_is_no_csv_is_named(tmp_path, data, message):
    with pytest.raises(FileError, match=message):
        read_csv(written(tmp_path / "a.csv", data))


def test_csv_files_and_columns_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileError, match=r"none\.csv: cannot be read: No such file"):
        read_csv(tmp_path / "none.csv")
    with pytest.raises(DataError, match="no column is called 'c'; the columns are a, b"):
        read_csv(written(tmp_path / "a.csv", "a,b\n1,2\n"), target="c")


def test_a_mutated_csv_is_read_or_refused_by_a_gpunn_error(tmp_path):
    path, refused = tmp_path / "a.csv", []
    for changed in mutations(b'a,"b\n c",d\n1,-2.5e3,cat\n"4",5,dog\n\n6,7,"c""at"\n', 1000):
        written(path, changed)
        try:
            table = read_csv(path, missing="keep")
            filled, _ = fill_missing(table, table)
            assert np.isfinite(filled.x).all()
            np.testing.assert_array_equal(read_rows(path, filled.table).x, filled.x)
            assert np.isfinite(read_csv(path).x).all()
        except GpunnError as error:
            refused.append(str(error))
    assert len(refused) > 300
    assert not [message for message in refused if "\n" in message]


def test_a_table_without_names_may_end_in_names_of_classes(tmp_path):
    path = tmp_path / "iris.data.csv"
    path.write_text("5.1,3.5,Iris-setosa\n7.0,3.2,Iris-versicolor\n")
    table = read_csv(path)
    assert table.x.tolist() == [[5.1, 3.5], [7.0, 3.2]]
    assert table.classes == ("Iris-setosa", "Iris-versicolor")


# --- text and what is missing

PEOPLE = """name,age,city,note,y
a,10,Bern,x,1.5
a,,Rome,x,2
b,30,,x,3
c,20, Bern ,x,4
"""


def test_each_category_of_a_column_of_text_is_an_input(tmp_path):
    data = read_csv(written(tmp_path / "a.csv", PEOPLE), missing="keep")
    assert [column.name for column in data.table.columns] == ["name", "age", "city", "note"]
    assert [column.categories for column in data.table.columns] == [("a", "b", "c"), (), ("", "Bern", "Rome"), ("x",)]
    expected = [
        [1, 0, 0, 10, 0, 1, 0, 1],
        [1, 0, 0, np.nan, 0, 0, 1, 1],
        [0, 1, 0, 30, 1, 0, 0, 1],
        [0, 0, 1, 20, 0, 1, 0, 1],
    ]
    np.testing.assert_array_equal(data.x, expected)
    np.testing.assert_array_equal(data.table.is_number, np.arange(8) == 3)
    assert data.table.target == "y"


def test_rows_with_a_missing_cell_are_left_out_where_that_is_asked_for(tmp_path):
    data = read_csv(written(tmp_path / "a.csv", PEOPLE + "d,5,Rome,x,\n"), missing="drop")
    np.testing.assert_array_equal(data.y, [1.5, 4])
    assert data.table.columns[2].categories == ("Bern",)
    assert data.note == "3 of 5 rows left out, as a cell is missing in them"


def test_columns_can_be_left_out(tmp_path):
    data = read_csv(written(tmp_path / "a.csv", PEOPLE), drop=["name", "city"], missing="keep")
    assert [column.name for column in data.table.columns] == ["age", "note"]


def test_the_mean_of_the_rows_to_train_on_stands_for_a_missing_number(tmp_path):
    data = read_csv(written(tmp_path / "a.csv", "a,b,y\n1,5,0\n3,5,1\n,5,0\n?,,1\n"), missing="keep")
    train, test = fill_missing(data[:3], data[3:])
    np.testing.assert_array_equal(train.x, [[1, 5], [3, 5], [2, 5]])
    np.testing.assert_array_equal(test.x, [[2, 5]])
    assert [column.mean for column in train.table.columns] == [2.0, 5.0]
    with pytest.raises(DataError, match="column 'a' is empty in all rows to train on"):
        fill_missing(data[2:], data[:2])


def test_of_many_categories_the_most_frequent_are_kept(tmp_path):
    texts = [f"t{i:03}" for i in range(150)] * 2 + [f"t{i:03}" for i in range(40, 150)]
    data = read_csv(written(tmp_path / "a.csv", "a,y\n" + "".join(f"{t},{i % 2}\n" for i, t in enumerate(texts))))
    (column,) = data.table.columns
    assert len(column.categories) == 100
    assert set(column.categories) <= set(texts[40:150])
    assert "the 100 most frequent of 150" in str(column)
    assert data.x.sum(axis=1).tolist() == [float(text in column.categories) for text in texts]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "who,y\n" + "".join(f"n{i},{i % 2}\n" for i in range(11)),
            {},
            "column 'who' holds 11 different texts in 11 rows, .*; leave it out with --drop",
        ),
        ("x,who\n" + "".join(f"{i},n{i}\n" for i in range(11)), {}, "the target 'who' holds 11 different texts"),
        ("a,b,y\n,1,1\n,2,2\n", {"missing": "keep"}, "column 'a' is empty in all rows; leave it out with --drop"),
        ("a,y\n,1\n2,\n", {"missing": "drop"}, "in every row a cell is missing"),
        ("a,y\n1,\n2,3\n", {"missing": "keep"}, "line 2: the target 'y' is missing"),
        ("a,b,y\n1,2,3\n", {"drop": ["c"]}, "no column is called 'c'"),
        ("length,width,y\n1,2,3\n", {"drop": ["lenght"]}, "the columns are length, .*; did you mean 'length'\\?"),
        ("a,b,y\n1,2,3\n", {"drop": ["y"]}, "'y' is the target and cannot be left out"),
        ("a,b,y\n1,2,3\n", {"drop": ["a", "b"]}, "no column is left to learn from"),
        (",y\n" + "".join(f"{i},1\n" for i in range(11)), {}, "no column is left to learn from"),
    ],
)
def test_a_column_that_says_nothing_is_named(tmp_path, text, options, message):
    with pytest.raises(DataError, match=message):
        read_csv(written(tmp_path / "a.csv", text), **options)


def test_a_choice_for_missing_cells_is_known(tmp_path):
    with pytest.raises(OptionError, match="missing 'mean' is not known; expected refuse, drop or keep"):
        read_csv(written(tmp_path / "a.csv", PEOPLE), missing="mean")


def test_a_column_without_a_name_is_called_by_its_number(tmp_path):
    data = read_csv(written(tmp_path / "a.csv", ",a,y\n0,5,1\n1,6,2\n"))
    assert [column.name for column in data.table.columns] == ["column 1", "a"]


def test_a_column_that_counts_the_rows_and_has_no_name_is_left_out(tmp_path):
    text = ",id,a,y\n" + "".join(f"{i},{i},{i % 4},{i % 2}\n" for i in range(11))
    data = read_csv(written(tmp_path / "a.csv", text))
    assert [(column.name, "counts the rows" in column.note) for column in data.table.columns] == [
        ("id", True),
        ("a", False),
    ]
    assert data.note == "column 1 left out, which has no name and only counts the rows"
    np.testing.assert_array_equal(read_rows(tmp_path / "a.csv", data.table).x, data.x)


def test_a_column_that_float32_would_round_away_is_noted(tmp_path):
    start = 1_700_000_000
    text = "when,year,id,y\n" + "".join(f"{start + 7 * i},{2000 + i},{2**63 + i * 2**58},{i % 2}\n" for i in range(9))
    when, year, number = read_csv(written(tmp_path / "a.csv", text)).table.columns
    assert when.note == "float32 rounds it to steps of 128: choose --dtype float64"
    assert "float32" not in year.note + number.note


def test_text_that_goes_over_lines_is_one_line(tmp_path):
    text = 'a,b,y\n"one\n two",1,"so\nso"\none  two,2,so so\nthree,3,no\n'
    path = written(tmp_path / "a.csv", text)
    data = read_csv(path)
    assert data.table.columns[0].categories == ("one two", "three")
    assert data.classes == ("no", "so so")
    rows = read_rows(path, data.table)
    np.testing.assert_array_equal(rows.x, data.x)
    assert rows.cells[0] == ["one\n two", "1", "so\nso"]
    assert rows.notes == []


def test_inputs_have_names():
    table = Table("y", (Column("a"), Column("c", ("", "blue"))))
    assert table.inputs == ("a", "c = (missing)", "c = blue")


def test_a_first_line_that_may_not_be_names_is_noted(tmp_path):
    data = read_csv(written(tmp_path / "a.csv", "39,red,1\n40,blue,0\n41,red,0\n"))
    assert data.note == "the first line is taken for names, though '39' looks like a value"


def test_columns_are_described(tmp_path):
    rows = "".join(f"{i},5,{i % 3 if i else ''},{'red' if i % 2 else 'blue'},{i % 2}\n" for i in range(20))
    data = read_csv(written(tmp_path / "a.csv", "n,c,x,colour,y\n" + rows), missing="keep")
    table = fill_missing(data, data)[0].table
    assert table.describe() == [
        "n       number; it only counts the rows: leave it out with --drop",
        "c       number; the same in all rows",
        "x       number; 1 missing, taken as the mean 1",
        "colour  category of 2: blue, red",
    ]
    assert table.describe(2) == [
        *(line.replace("n       ", "n  ").replace("c       ", "c  ") for line in table.describe()[:2]),
        "and 2 more",
    ]
    wide = Table("y", (*(Column(f"x{i}") for i in range(30)), Column("z", note="odd")))
    assert wide.describe() == ["z  number; odd", "and 30 more"]
    assert Table("y", wide.columns[:30]).describe() == ["30 columns of numbers"]


# --- another file

TABLE = Table("y", (Column("a", mean=2.0), Column("c", ("", "blue", "red")), Column("b")))


def test_columns_are_found_by_their_names(tmp_path):
    rows = read_rows(written(tmp_path / "a.csv", "c;extra;b;a\nred;9;1;2\n;9;3;4\n"), TABLE)
    np.testing.assert_array_equal(rows.x, [[2, 0, 0, 1, 1], [4, 1, 0, 0, 3]])
    assert (rows.names, rows.cells[0], rows.notes) == (["c", "extra", "b", "a"], ["red", "9", "1", "2"], [])


def test_what_is_made_up_is_noted(tmp_path):
    rows = read_rows(written(tmp_path / "a.csv", "a,b,c\n,1,green\n1,1,red\n"), TABLE)
    np.testing.assert_array_equal(rows.x, [[2, 0, 0, 0, 1], [1, 0, 0, 1, 1]])
    assert rows.notes == [
        "column 'a': 1 missing, taken as the mean 2",
        "column 'c': 1 of 2 rows hold what was not learned: 'green'",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,colour\n1,2,red\n", "no column is called 'c'; the columns are a, b, colour; add it, as the network"),
        ("1,2,3\n4,5,6\n", r"no column is called 'a'; the columns are 1, 2, 3 \(the first line holds no names\)"),
        ("a,b,c,c\n1,2,red,red\n", "more than one column is called 'c'"),
        ("a,b,c\n1,x,red\n", "line 2: column 'b' holds 'x', expected a number"),
        ("a,b,c\n1,inf,red\n", "line 2: column 'b' holds 'inf', expected a number"),
        ("a,b,c\n1,-1e300,red\n", r"line 2: column 'b' holds '-1e300', expected a number up to 1e\+37; correct"),
        ("a,b,c\n1,1,red\n1,,red\n", "line 3: column 'b' is missing; fill it in"),
        ("a,b,c\n", "there are no rows below"),
        ("a,b,c\n1,2\n", "line 2: 2 cells, expected 3"),
    ],
)
def test_rows_that_do_not_fit_are_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as error:
        read_rows(written(tmp_path / "a.csv", text), TABLE)
    assert str(error.value).startswith(str(tmp_path / "a.csv"))


def test_the_same_file_gives_the_same_inputs(tmp_path):
    path = written(tmp_path / "a.csv", PEOPLE)
    data = read_csv(path, missing="keep")
    filled, _ = fill_missing(data, data)
    np.testing.assert_array_equal(read_rows(path, Table.of(filled.table.about())).x, filled.x)
