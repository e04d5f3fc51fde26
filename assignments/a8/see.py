"""The three schedules of TSA for five classes, and the ramp-up of the consistency, as curves."""

import sys

from minbert.methods.semi_supervised import TSA_SCHEDULES, ramp_up, tsa_threshold

WIDTH, HEIGHT = 60, 12


def curve(title, function):
    rows = [[" "] * (WIDTH + 1) for _ in range(HEIGHT + 1)]
    for column in range(WIDTH + 1):
        rows[HEIGHT - round(function(column / WIDTH) * HEIGHT)][column] = "*"
    print(f"\n{title}")
    for number, row in enumerate(rows):
        print(f"{1 - number / HEIGHT:4.2f} |" + "".join(row))
    print("      " + "-" * (WIDTH + 1) + " share of training")


def main():
    for schedule in TSA_SCHEDULES:
        curve(f"TSA, {schedule}: above this probability an example waits", lambda p, s=schedule: tsa_threshold(p, 5, s))
    curve("ramp-up: how much of its weight the consistency has", ramp_up)


if __name__ == "__main__":
    try:
        main()
    except NotImplementedError as error:
        sys.exit(str(error))
