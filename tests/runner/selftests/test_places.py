import threading
import time
import unittest

from runner.places import Places


class GivenUp(Exception):
    pass


class PlacesTest(unittest.TestCase):
    def test_never_more_than_there_are_and_all_get_one(self):
        places, lock = Places(2), threading.Lock()
        inside, most, done = 0, 0, 0
        both = threading.Barrier(2)

        def work():
            nonlocal inside, most, done
            with places.one():
                with lock:
                    inside += 1
                    most = max(most, inside)
                # Goes on only when there are two: so two may be in at once.
                both.wait(20)
                with lock:
                    inside -= 1
                    done += 1

        threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        self.assertEqual((most, done), (2, 8))

    def test_the_lowest_rank_is_next_and_among_equals_who_came_first(self):
        places, order, threads = Places(1), [], []

        def work(rank, name):
            with places.one(rank):
                order.append(name)

        with places.one():
            for rank, name in ((2, "unit"), (1, "first"), (0, "cluster"), (1, "second")):
                threads.append(threading.Thread(target=work, args=(rank, name), daemon=True))
                threads[-1].start()
                end = time.monotonic() + 20
                while len(places.waiting) < len(threads) and time.monotonic() < end:
                    time.sleep(0.01)
        for thread in threads:
            thread.join(20)
        self.assertEqual(order, ["cluster", "first", "second", "unit"])

    def test_who_gives_up_leaves_the_queue_and_who_fails_its_place(self):
        places = Places(1)

        def give_up():
            raise GivenUp

        with places.one():
            with self.assertRaises(GivenUp), places.one(give_up=give_up):
                self.fail("there was none")
        with self.assertRaises(GivenUp), places.one():
            raise GivenUp
        with places.one(give_up=give_up):
            pass
        self.assertEqual((places.free, places.waiting), (1, []))
