"""The page to compare with: fetches every user at a click, and draws with matplotlib.

It does what the course's first version did. It was written from the description.
"""

import matplotlib.pyplot as plt
import requests
import streamlit as st

API_URL = st.session_state.setdefault("api_url", "http://localhost:8000/users/")

st.title("User ages")
if st.button("Fetch the users"):
    users = requests.get(API_URL, timeout=300).json()
    ages = [user["age"] for user in users.values()]
    if ages:
        figure, axes = plt.subplots()
        axes.hist(ages, bins=10, edgecolor="black")
        axes.set_xlabel("Age")
        axes.set_ylabel("Users")
        st.pyplot(figure)
        plt.close(figure)
        st.write(f"{len(ages)} users, mean age {sum(ages) / len(ages):.1f}")
    else:
        st.write("No users")
