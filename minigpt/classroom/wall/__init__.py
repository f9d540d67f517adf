"""The wall: what a class thinks, on one page on the teacher's laptop.

`member.py` is the student's side: `join` and `leave`, and a thread that sends answers. `server.py`
is the teacher's: it takes them, keeps them in `store.py`, and shows `wall.html`. `exercises.py`
names mistakes for both. `python -m minigpt.classroom.wall` starts the server, or, with all the
set-up, `python3 run.py wall`.
"""
